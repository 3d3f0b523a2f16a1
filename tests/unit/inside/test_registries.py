from runner.inside.registries import addresses_of, entries, indexes, linked

DEFAULT = "https://index.acme.test/simple"


def test_each_place_is_named_once_and_what_is_not_the_webs_usual_is_said() -> None:
    urls = [
        "https://b.acme.test/simple", "https://b.acme.test:443/files", "http://a.acme.test/debian",
        "https://c.acme.test:8443/", "file:///opt", "//d.acme.test/x", "",
    ]  # fmt: skip
    assert entries(urls, resolve=lambda _: ["1.1.1.1"]) == [
        {"host": "a.acme.test", "scheme": "http"},
        "b.acme.test",
        {"host": "c.acme.test", "port": 8443},
    ]


def test_a_mirror_in_a_closed_network_is_named_with_the_addresses_it_has_there() -> None:
    found = {"in.acme.test": ["10.1.2.3", "1.1.1.1", "169.254.169.254"], "gone.acme.test": []}
    assert entries([f"https://{host}/" for host in found], resolve=lambda host: found[host]) == [
        "gone.acme.test",
        {"host": "in.acme.test", "addresses": ["10.1.2.3"]},
    ]


def test_a_host_with_many_links_is_looked_up_once() -> None:
    asked: list[str] = []

    def resolve(host: str) -> list[str]:
        asked.append(host)
        return []

    entries([f"https://files.acme.test/{n}" for n in range(300)], resolve=resolve)
    assert asked == ["files.acme.test"]


def test_a_name_that_does_not_resolve_has_no_address() -> None:
    assert addresses_of("..") == []
    assert addresses_of("127.0.0.1") == ["127.0.0.1"]


def test_without_a_word_on_it_the_index_is_pips_own() -> None:
    assert indexes("global.cert='/x'\n", default=DEFAULT) == [DEFAULT]
    listing = "global.index-url='https://i.acme.test/s'\nglobal.extra-index-url='https://e1/s https://e2/s'\n"
    assert indexes(listing, default=DEFAULT) == [
        "https://i.acme.test/s",
        "https://e1/s",
        "https://e2/s",
    ]


def test_an_index_leads_to_its_files() -> None:
    url = "https://index.acme.test/simple/pip/"
    page = '<a href="https://files.acme.test/a.whl#sha256=1">a</a> <a href="../../packages/b.whl">b</a>'
    assert linked(page, url=url) == [
        "https://files.acme.test/a.whl",
        "https://index.acme.test/packages/b.whl",
    ]
    assert linked('{"files": [{"url": "https://json.acme.test/c"}]}', url=url) == [
        "https://json.acme.test/c"
    ]
