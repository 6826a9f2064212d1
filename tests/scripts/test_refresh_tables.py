import pytest

from common.errors import DataError
from scripts.release.refresh_tables import refreshed, tables_of

TEXT = """Before.

<!-- table 2: scripts/x.py --table a.csv -->
| a |
|---|
| old |

After, | no table.
"""


def test_a_marked_table_is_replaced_and_nothing_else():
    asked = []

    def tables(command):
        asked.append(command)
        return ("| first |\n", "| a |\n|---|\n| new |\n| and |\n")

    assert refreshed(TEXT, tables) == TEXT.replace("| old |\n", "| new |\n| and |\n")
    assert asked == ["scripts/x.py --table a.csv"]
    assert refreshed("no mark\n| a |\n", tables) == "no mark\n| a |\n"
    with pytest.raises(DataError, match="prints 1 tables, not 2"):
        refreshed(TEXT, lambda command: ("| a |\n",))


def test_a_failing_command_is_named():
    with pytest.raises(DataError, match="scripts/none.py' ended with status 2"):
        tables_of("scripts/none.py")
