from collections import Counter

from tests.adversarial.table import PAGE, cases, page


def test_the_table_in_the_docs_is_the_one_of_the_cases() -> None:
    text = PAGE.read_text()
    assert text == page(text), "run `python -m tests.adversarial.table`"


def test_every_case_has_a_name_of_its_own_and_says_what_it_is() -> None:
    found = list(cases())
    assert [name for name, count in Counter(case.id for case in found).items() if count > 1] == []
    assert all(case.tried and case.must for case in found)
    assert len([case for case in found if case.id.startswith("x")]) >= 15
