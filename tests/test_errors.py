import pytest

from cfaan_jax.errors import shortened


@pytest.mark.parametrize("entries, text", [
    ([], ""), (["a", "b"], "a, b"), (range(5), "0, 1, 2, 3, 4"), (range(1200), "0, 1, 2, 3, 4, ... (1,200 in all)"),
    ({"x": 1}.keys(), "x")])
def test_a_list_in_a_message_shows_five_entries_and_the_count(entries, text):
    assert shortened(entries) == text
