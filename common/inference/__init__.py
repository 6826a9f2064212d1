"""What every inference does alike: inputs, options, tables, drawings."""
