"""The pages and figures of analyze_reg_model."""
