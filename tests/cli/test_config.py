"""Settings: where they come from, and how mistakes in them are said."""

from __future__ import annotations

import pytest

from auditor.config import Ignore, Settings, seconds
from auditor.configfile import load, nearest, read
from auditor.declare import Severity
from auditor.errors import ConfigError


@pytest.fixture
def rules(driver):
    return driver.RULES


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(text, name="pyproject.toml"):
        (tmp_path / name).write_text(text)
        return tmp_path

    return write


def test_without_a_file_there_are_defaults(tmp_path, rules):
    assert load(tmp_path, rules) == Settings()


def test_everything_can_be_set(project, rules):
    folder = project(
        """
        [tool.auditor]
        steps = 30
        max-time = "5m"
        select = ["TST", "never-cleared"]
        ignore = [{ rule = "TST102", reason = "on purpose" }]
        fail-on = "never"
        [tool.auditor.limits.high-loss]
        max-loss = 30
        """
    )
    settings = load(folder / "deep" / "er", rules)
    assert (settings.steps, settings.max_time, settings.fail_on) == (30, 300.0, None)
    assert settings.ignore == (Ignore(rule="TST102", reason="on purpose"),)
    assert settings.limits_of(rules[0]).max_loss == 30.0
    assert settings.selected(rules) == rules


def test_the_command_line_goes_first_and_adds_to_ignore(project, rules):
    folder = project('[tool.auditor]\nsteps = 30\nfail-on = "note"\nignore = [{rule = "TST101", reason = "r"}]\n')
    given = {"steps": 5, "max_time": None, "fail_on": None, "ignore": (Ignore(rule="TST102", reason="--ignore"),)}
    settings = load(folder, rules, overrides=given)
    assert settings.steps == 5
    assert settings.fail_on is Severity.NOTE
    assert [entry.rule for entry in settings.ignore] == ["TST101", "TST102"]


def test_fail_on_never_from_the_command_line(tmp_path, rules):
    assert load(tmp_path, rules, overrides={"fail_on": "never"}).fail_on is None


def test_the_nearest_file_with_the_table_counts(project, rules, tmp_path):
    project("[tool.auditor]\nsteps = 7\n")
    inner = tmp_path / "package"
    inner.mkdir()
    (inner / "pyproject.toml").write_text("[tool.other]\nx = 1\n")
    assert load(inner, rules).steps == 7
    (inner / "auditor.toml").write_text("steps = 8\n")
    assert load(inner, rules).steps == 8


def test_a_broken_pyproject_of_someone_else_is_left_alone(project, tmp_path):
    project("[tool.other\n")
    assert nearest(tmp_path / "x") is None


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("step = 3", 2, "unknown key 'step'; did you mean 'steps'?"),
        ("\nmax_time = 3", 3, "unknown key 'max_time'; did you mean 'max-time'?"),
        ("wrong = 3", 2, "unknown key 'wrong'; known are steps"),
        ("steps = 0", 2, "steps: input should be greater than or equal to 1 (it is 0)"),
        ('steps = "3"', 2, "steps: input should be a valid integer (it is '3')"),
        ("steps = true", 2, "steps: input should be a valid integer (it is True)"),
        ('max-time = "soon"', 2, "max-time: 'soon' is not a time"),
        ("max-time = inf", 2, "max-time: input should be a finite number"),
        ('fail-on = "bad"', 2, "fail-on: input should be 'error', 'warning' or 'note'"),
        ('select = "TST"', 2, "select must be a list"),
        ('select = ["hi-loss"]', 2, "select: no rule is called 'hi-loss'; did you mean high-loss"),
        ("select = [3]", 2, "select: 3 is no rule's name or code"),
        ('ignore = ["TST101"]', 2, "ignore: 'TST101' gives no reason; write { rule ="),
        ('ignore = [{ rule = "TST101" }]', 2, "ignore: 'TST101' gives no reason"),
        ('ignore = [{ rule = "TST101", reason = " " }]', 2, "ignore: 'TST101' gives no reason"),
        ('ignore = [{ rule = "TST101", reasons = "x" }]', 2, "ignore: unknown key 'reasons'; did you mean 'reason'?"),
        ('ignore = [{ rule = "XYZ", reason = "x" }]', 2, "ignore: no rule is called 'XYZ'"),
        ("limits = 3", 2, "limits: write one table a rule"),
        ("[tool.auditor.limits.hig-loss]\nmax-loss = 3", 2, "limits: no rule is called 'hig-loss'; did you mean"),
        (
            "[tool.auditor.limits.high-loss]\nmax-los = 3",
            3,
            "high-loss has no limit 'max-los'; did you mean 'max-loss'?",
        ),
        (
            "[tool.auditor.limits.high-loss]\n# no\nmax-loss = -1",
            4,
            "limits.high-loss.max-loss: input should be greater",
        ),
        ("[tool.auditor.limits.never-cleared]\nx = 1", 3, "never-cleared has no limit 'x'; it has none"),
        ('limits.high-loss.max-loss = "x"', 2, "limits.high-loss.max-loss: input should be a valid number"),
    ],
)
def test_mistakes_are_said_with_their_line(project, rules, text, line, message):
    folder = project(f"[tool.auditor]\n{text}\n")
    with pytest.raises(ConfigError) as wrong:
        load(folder, rules)
    assert str(wrong.value).startswith(f"pyproject.toml:{line}: {message}")
    assert "\n" not in str(wrong.value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("pyproject.toml", "[project]\n", r"there is no table \[tool.auditor\]"),
        ("auditor.toml", "steps = \n", "not valid TOML"),
        ("auditor.toml", None, "there is no such configuration file"),
    ],
)
def test_files_that_cannot_be_used(tmp_path, name, text, message):
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read(path)


def test_bytes_that_are_no_text(tmp_path):
    (tmp_path / "auditor.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="cannot be read"):
        read(tmp_path / "auditor.toml")


def test_unknown_rule_on_the_command_line(tmp_path, rules):
    with pytest.raises(ConfigError, match="--select: no rule is called 'nope'"):
        load(tmp_path, rules, overrides={"select": ("nope",)})


@pytest.mark.parametrize(("text", "value"), [("90", 90.0), ("90s", 90.0), ("1.5m", 90.0), ("1h", 3600.0)])
def test_times(text, value):
    assert seconds(text) == value
