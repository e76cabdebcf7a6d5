from markupsafe import Markup

from micro.report import page


def test_what_cannot_be_seen_or_turns_the_text_is_written_out() -> None:
    assert page.visible("a\nb\tc\r") == "a\\nb\\tc\\r"
    assert page.visible("fdp.\u202egpj.exe") == "fdp.\\u202egpj.exe"
    assert page.visible("\udcff\U000e0041\u200b") == "\\udcff\\U000e0041\\u200b"
    for plain in ("Größe 鉄 µm", "a\N{NARROW NO-BREAK SPACE}b", "é e\u0301"):
        assert page.visible(plain) == plain
    assert page.visible(7) == 7


def test_a_text_is_text_wherever_a_template_puts_it() -> None:
    template = page.environment().from_string('<a title="{{ t }}">{{ t }} {{ t | breakable }}</a>')
    text = "\"'><script>\n</script>&lt;.png"
    safe = "&#34;&#39;&gt;&lt;script&gt;\\n&lt;/script&gt;&amp;lt;.png"
    broken = safe.replace("/", "/<wbr>").replace(".", ".<wbr>")
    assert template.render(t=text) == f'<a title="{safe}">{safe} {broken}</a>'


def test_json_on_a_page_is_whole_and_cannot_end_its_element() -> None:
    value = {"name": "</pre><script>\u202e", "g": 8.25}
    shown = page.as_json(value)
    assert "<" not in shown
    assert Markup(shown).unescape() == '{\n "name": "</pre><script>\\u202e",\n "g": 8.25\n}'


def test_numbers_have_their_digits_and_no_exponent() -> None:
    cases = {0: "0", 12: "12", 1234567: "1 234 567", 0.12345: "0.123", 12345.6: "12 300", 2.0: "2.00"}
    assert {value: page.number(value).replace("\N{NARROW NO-BREAK SPACE}", " ") for value in cases} == cases
    assert page.number(0.000012345) == "1.23e-05"
    assert page.number(None) == "\N{EN DASH}"
    assert page.number(8.4567, 4) == "8.457"


def test_times_are_read_in_one_time_zone() -> None:
    assert page.when("2026-03-01T12:30:05+01:00") == "2026-03-01 11:30:05 UTC"
    assert page.when(None) == "\N{EN DASH}"
