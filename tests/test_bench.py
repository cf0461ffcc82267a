"""The command `python -m fastcache bench`: it runs, says what it measured, and judges rightly.

No speed is asserted; rows are few and rounds short.
"""

from __future__ import annotations

import html.parser
import importlib.util
import json
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastcache import __main__ as command
from fastcache._bench import cli, heavy, inputs, rows, sizes, subjects, table, worker
from fastcache._bench.model import US, Cell, Program, Result, Row, Target, judge

pytest.importorskip("numpy", reason="the statistics of the benchmarks")

from servers.redis import RedisServer

from fastcache._bench import instructions, report, runner, seen, session, stats, tiers

TINY = ("--rounds", "2", "--round-ms", "1", "--entries", "2000")
LIMIT = 240


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "fastcache", "bench", *arguments],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One small run with everything that a run can write."""
    folder = tmp_path_factory.mktemp("bench")
    files = {"json": folder / "result.json", "report": folder / "result.html"}
    done = bench(
        *TINY, "--rows", "call_int,cached_int,await_int,get_miss,get_many_list,get_lfu,fill,cold_50,cold_tasks",
        "--peers", "functools,dict", "--json", str(files["json"]), "--report", str(files["report"]),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return {
        "out": done.stdout,
        "err": done.stderr,
        "json": json.loads(files["json"].read_text(encoding="utf-8")),
        "html": files["report"].read_text(encoding="utf-8"),
    }


class TestRun:
    def test_table_names_subjects_rows_and_targets(self, ran: dict[str, Any]) -> None:
        for text in (
            "f(int) hit",
            "functools",
            "of <= 0.45 x functools",
            "not measured:",
            "noise:",
        ):
            assert text in ran["out"]
        assert "\x1b" not in ran["out"] + ran["err"]  # no terminal, no colours

    def test_progress_is_plain_lines_off_a_terminal(self, ran: dict[str, Any]) -> None:
        lines = ran["err"].splitlines()
        assert lines[0] == "[1/10] noise"
        assert "done in" in lines[-1]

    def test_json_has_the_conditions(self, ran: dict[str, Any]) -> None:
        facts = ran["json"]["conditions"]
        assert ran["json"]["kind"] == "fastcache-bench"
        assert ran["json"]["schema"] == session.SCHEMA
        for name in ("cpu", "python", "build", "commit", "date", "load", "peers", "fastcache"):
            assert name in facts
        assert set(facts["build"]) == {"pgo", "lto", "evidence"}
        assert ran["json"]["noise"]["ratio"] > 0

    def test_json_has_every_round_of_every_subject(self, ran: dict[str, Any]) -> None:
        found = {row["name"]: row for row in ran["json"]["rows"]}
        wanted = ["call_int", "get_miss", "get_lfu", "get_many_list", "fill", "cold_50"]
        assert sorted(found) == sorted([*wanted, "cached_int", "await_int", "cold_tasks"])
        assert set(found["call_int"]["subjects"]) == {"fastcache", "functools", "dict"}
        assert set(found["await_int"]["subjects"]) == {"fastcache", "uncached"}
        assert "fastcache:lru" in found["get_lfu"]["subjects"]
        for row in found.values():
            for name, cell in row["subjects"].items():
                assert cell["error"] == "", (row["name"], name)
                assert len(cell["values"]) == 2
                assert cell["median"] is not None

    def test_page_is_self_contained(self, ran: dict[str, Any]) -> None:
        seen = Page()
        seen.feed(ran["html"])
        assert seen.outside == []
        assert not {"script", "link", "img", "iframe"} & seen.tags
        assert {"svg", "table", "style", "h1"} <= seen.tags
        assert "@import" not in ran["html"]
        assert "url(" not in ran["html"]
        assert 'name="viewport"' in ran["html"]
        assert "prefers-color-scheme" in ran["html"]

    def test_page_says_its_plots_in_words(self, ran: dict[str, Any]) -> None:
        labels = Page()
        labels.feed(ran["html"])
        assert any("functools" in text and "times ours" in text for text in labels.spoken)


class Page(html.parser.HTMLParser):
    """Collects tags, references to the outside, and what is said of pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.outside: list[str] = []
        self.spoken: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            if name in ("src", "href", "data", "srcset"):
                self.outside.append(f"{tag} {name}={value}")
            if name == "aria-label" and value:
                self.spoken.append(value)


class TestUsage:
    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (("--rows", "call_int,call_inn"), "'call_inn'"),
            (("--rows", ","), "--rows"),
            (("--peers", "functool"), "'functool'"),
            (("--rounds", "0"), "'0'"),
            (("--rounds", "many"), "'many'"),
            (("--json", "no/such/folder/x.json"), "no/such/folder"),
        ],
    )
    def test_wrong_arguments_are_named(
        self, arguments: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit) as stopped:
            command.main(["bench", *arguments])
        assert stopped.value.code == 2
        assert says in capsys.readouterr().err

    def test_without_subcommand(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as stopped:
            command.main([])
        assert stopped.value.code == 2
        assert "SUBCOMMAND" in capsys.readouterr().err

    def test_list_names_rows_peers_and_what_is_missing(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert command.main(["bench", "--list"]) == 0
        out = capsys.readouterr().out
        for name in (
            "call_int",
            "bytes_lru",
            "cachebox",
            "old-fastcache",
            "await_int",
            "cold_tasks",
        ):
            assert name in out

    def test_help_names_what_is_not_measured(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as stopped:
            command.main(["bench", "--help"])
        assert stopped.value.code == 0
        out = capsys.readouterr().out
        assert "not measured" in out
        assert "free-threaded" in out

    def test_an_absent_peer_is_said(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        absent = subjects.Peer("theine", "no_such_module_at_all", "theine")
        monkeypatch.setitem(subjects.PEERS, "theine", absent)  # type: ignore[arg-type]
        code = command.main(["bench", *TINY, "--rows", "call_none", "--peers", "functools,theine"])
        assert code == 0
        assert "absent: theine: not installed (pip install theine)" in capsys.readouterr().out

    def test_an_old_interpreter_without_the_package_is_said(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        arguments = ["--rows", "call_none", "--peers", "functools"]
        code = command.main(
            ["bench", *TINY, *arguments, "--old-fastcache-python", "/no/such/python"]
        )
        assert code == 0
        assert "old-fastcache: /no/such/python" in capsys.readouterr().out

    def test_without_numpy_it_says_what_to_install(self) -> None:
        code = (
            "import sys, importlib.util as u; find = u.find_spec\n"
            "u.find_spec = lambda name, *a: None if name == 'numpy' else find(name, *a)\n"
            "from fastcache.__main__ import main\n"
            "code = main(['bench', '--quick'])\n"
            "assert 'numpy' not in sys.modules\n"
            "sys.exit(code)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 1
        assert "fastcache-engine[bench]" in done.stderr


def result(ours: float, **others: float) -> Result:
    """A judged-to-be row with one round per subject."""
    made = Result(Row("r", "r", "g", targets=[Target("functools", 0.5, 0.6)]))
    made.cells = {US: Cell(values=[ours])}
    made.cells.update({name: Cell(values=[value]) for name, value in others.items()})
    runner.summarize(made)
    return made


class TestVerdict:
    def test_met_below_the_factor(self) -> None:
        row = result(40.0, functools=100.0)
        judge(row, pgo=False)
        assert row.verdict == "met"
        assert row.verdicts[0].reached == pytest.approx(0.4)

    def test_missed_above_it_and_pgo_has_its_own(self) -> None:
        row = result(55.0, functools=100.0)
        judge(row, pgo=False)
        assert row.verdict == "miss"
        row = result(55.0, functools=100.0)
        judge(row, pgo=True)
        assert row.verdict == "met"

    def test_behind_any_peer_is_a_miss(self) -> None:
        row = result(40.0, functools=100.0, cachebox=30.0)
        judge(row, pgo=False)
        assert row.verdict == "miss"
        assert row.behind == ["cachebox"]
        assert "behind cachebox" in table.outcome(row)

    def test_behind_dict_is_not(self) -> None:
        row = result(40.0, functools=100.0, dict=30.0)
        judge(row, pgo=False)
        assert row.verdict == "met"
        assert row.best() == US

    def test_a_lead_within_the_noise_is_level(self) -> None:
        row = Result(Row("r", "r", "g"))
        row.cells = {
            US: Cell(values=[10.0, 10.0, 10.0]),
            "cachebox": Cell(values=[11.0, 9.9, 9.8]),
        }
        runner.summarize(row)
        judge(row, pgo=False)
        assert (row.behind, row.level) == ([], ["cachebox"])

    def test_an_absent_reference_is_not_judged(self) -> None:
        row = result(40.0, cachebox=80.0)
        judge(row, pgo=False)
        assert row.verdicts[0].result == "not judged"
        assert "functools" in row.verdicts[0].why
        assert row.verdict == "not judged"

    def test_without_us_nothing_is_judged(self) -> None:
        row = Result(Row("r", "r", "g", targets=[Target("functools", 0.5)]))
        row.cells = {US: Cell(error="broken"), "functools": Cell(values=[100.0])}
        runner.summarize(row)
        judge(row, pgo=False)
        assert row.verdict == "not judged"
        assert "broken" in table.outcome(row)

    def test_an_excluded_peer_does_not_compare(self) -> None:
        row = result(40.0, functools=100.0, cachebox=30.0)
        row.cells["cachebox"].excluded = True
        judge(row, pgo=False)
        assert (row.verdict, row.best()) == ("met", US)

    def test_headline_without_us(self) -> None:
        assert "not measured" in report.headline([Result(Row("r", "r", "g"))])


class TestMeasuring:
    def test_statement_runs_once_per_key_and_pass(self) -> None:
        setup = "keys = [1, 2, 3]\nseen = []"
        loop = worker.Loop(Program("x", setup, "seen.append(k)").as_dict())
        seen = loop._loop.__globals__["seen"]
        seen.clear()
        assert loop.run(4) >= 0
        assert seen == [1, 2, 3] * 4

    def test_what_awaits_is_run_by_an_event_loop(self) -> None:
        setup = (
            "import asyncio\nkeys = [1, 2]\nseen = []\n"
            "async def f(k):\n    await asyncio.sleep(0)\n    seen.append(k)"
        )
        program = Program("x", setup, "await f(k)", check="run(f(3)) is None and seen == [1, 2, 3]")
        loop = worker.Loop(program.as_dict())
        assert loop.run(2) >= 0
        assert not worker.awaits("f(k)")

    def test_a_failed_check_is_an_error_not_a_figure(self) -> None:
        bad = Program("functools", "keys = [1]", "pass", check="False")
        row = Row("r", "r", "g", [bad], empty=Program("", "keys = [1]", "pass"))
        measured = runner.run_row(row, ["functools"], rounds=1, round_ns=1000)
        assert "check failed: False" in measured.cells["functools"].error
        assert measured.cells["functools"].median is None

    def test_one_failing_subject_does_not_stop_the_others(self) -> None:
        programs = [
            Program("functools", "keys = [1]\nraise OSError('no')", "pass"),
            Program("cachebox", "keys = [1]", "abs(k)"),
        ]
        row = Row("r", "r", "g", programs, empty=Program("", "keys = [1]", "pass"))
        measured = runner.run_row(row, ["functools", "cachebox"], rounds=2, round_ns=1000)
        assert measured.cells["functools"].error == "OSError: no"
        assert len(measured.cells["cachebox"].values) == 2

    def test_another_interpreter_answers_the_same_protocol(self) -> None:
        other = runner.OtherInterpreter(sys.executable)
        try:
            opened = other.open(Program("x", "keys = ints(10)", "abs(k)"), 1000)
            assert opened.count == 10
            assert opened.run(2) > 0
            with pytest.raises(RuntimeError, match="ZeroDivisionError"):
                other.open(Program("x", "keys = 1 / 0", "pass"), 1000)
        finally:
            other.close()

    @pytest.mark.timing  # valgrind does not run what a sanitizer is preloaded into
    @pytest.mark.skipif(instructions.find_valgrind() is None, reason="needs valgrind")
    def test_instructions_are_counted(self) -> None:
        row = next(row for row in rows.loop_rows() if row.name == "call_none")
        counted = Result(row)
        instructions.count_row(counted, ["functools"])
        for subject in (US, "functools"):
            count = counted.cells[subject].instructions
            assert count is not None
            assert 20 < count < 5000

    def test_paired_ratios_leave_out_what_says_nothing(self) -> None:
        assert stats.paired_ratios([1.0, 2.0, 3.0], [2.0, 0.0, -1.0]) == [0.5]
        low, high = stats.interval([1.0, 2.0, 3.0])
        assert 1.0 <= low <= 2.0 <= high <= 3.0
        assert stats.interval([4.0]) == (4.0, 4.0)


class TestRows:
    def test_names_are_unique_and_quick_leaves_out_known_ones(self) -> None:
        every = [*rows.loop_rows(), *sizes.child_rows(), *tiers.tier_rows()]
        names = [row.name for row in every]
        assert len(names) == len(set(names))
        assert set(cli.QUICK_WITHOUT) < {*names, *(row.group for row in every)}

    def test_targets_refer_to_subjects_of_the_row(self) -> None:
        for row in rows.loop_rows():
            known = {program.subject for program in row.programs}
            for target in row.targets:
                assert not target.reference or target.reference in known, row.name

    def test_every_row_of_ours_runs(self) -> None:
        for row in rows.loop_rows():
            if row.counted:  # the others take seconds to set up, and run in every real run
                for program in row.programs:
                    if program.subject.partition(":")[0] == US:
                        worker.Loop(program.as_dict(), size=1000)

    @pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux")
    @pytest.mark.parametrize("mode", ["size", "size_ttl", "tracked", "worst", "empty"])
    def test_every_child_of_ours_answers(self, mode: str) -> None:
        question = next(q for q in sizes.QUESTIONS if q.mode == mode)
        cell = sizes.one_cell(question, US, entries=5000)
        assert cell.error == ""
        assert len(cell.values) == 1

    @pytest.mark.parametrize("mode", ["cold_50", "tasks_1000"])
    def test_a_cold_key_is_loaded_once(self, mode: str) -> None:
        question = next(q for q in sizes.QUESTIONS if q.mode == mode)
        ours = [name for name in sizes.subjects_of(mode) if name.partition(":")[0] == US]
        for subject in (*ours, "lock chain"):
            cell = sizes.one_cell(question, subject)
            assert (cell.error, cell.note) == ("", ""), subject  # a note says that there were more

    def test_rows_of_cached_ask_for_a_ttl_of_all_but_functools(self) -> None:
        asked = [row for row in rows.loop_rows() if row.name.startswith("cached_")]
        assert len(asked) == 6
        for row in asked:
            for program in row.programs:
                assert (str(rows.TTL) in program.setup) == (program.subject != "functools")

    def test_child_modes_exist(self) -> None:
        for question in sizes.QUESTIONS:
            if question.mode != "import":
                for job in sizes.jobs(question.mode, 10).values():
                    assert job["mode"] in heavy.MODES


@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("msgspec", "xxhash")),
    reason="the extra `tiered`",
)
class TestTiers:
    @pytest.fixture
    def here(self, redis_server: RedisServer) -> Iterator[tiers.Ground]:
        with tiers.ground(redis_server.url) as found:
            yield found

    @pytest.mark.parametrize("row", [row for row, _ in tiers.ROWS], ids=lambda row: row.name)
    def test_every_subject_that_is_there_runs(self, row: Row, here: tiers.Ground) -> None:
        here.redis()
        for name in tiers.subjects_of(row.name):
            peer = name.partition(":")[0]
            if peer in subjects.PEERS and subjects.look_for(peer).absent:
                continue
            with warnings.catch_warnings():
                if peer != US:
                    warnings.simplefilter("ignore")  # what is out of date in a peer is its affair
                subject = tiers.make(row.name, name, here)
                try:
                    wall, cpu = tiers.passed(subject)
                finally:
                    subject.close()
            assert wall > 0, name
            assert cpu > 0, name

    def test_targets_refer_to_subjects_of_the_row(self) -> None:
        for row in tiers.tier_rows():
            for target in row.targets:
                assert not target.reference or target.reference in tiers.subjects_of(row.name)

    @pytest.mark.parametrize("subject", ["fastcache", "fastcache:sqlite"])
    def test_another_process_sees_changes(self, subject: str, here: tiers.Ground) -> None:
        observer = seen.Observer(subject, here)
        try:
            took = observer.round(20)
        finally:
            observer.close()
        assert len(took) == 20
        assert all(ns > 0 for ns in took)

    def test_rows_of_what_is_seen(
        self, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(seen, "CHANGES", 20)
        rows = [row for row, _ in tiers.SEEN]
        results = list(tiers.run_rows(rows, [], 2, redis_server.url))
        assert [found.row.name for found in results] == ["seen_p50", "seen_p999"]
        usual, worst = (found.cells[US].values for found in results)
        assert (results[0].cells[US].error, len(usual)) == ("", 2)
        assert all(0 < p50 <= p999 for p50, p999 in zip(usual, worst, strict=True))

    def test_what_is_never_seen_is_an_error(
        self, here: tiers.Ground, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        observer = seen.Observer("fastcache", here)
        monkeypatch.setattr(seen, "LIMIT", 0.2)
        try:
            observer._write = lambda value: None
            with pytest.raises(RuntimeError, match="change number 1 was not seen"):
                observer.round(1)
        finally:
            observer.close()

    def test_a_run_of_the_command(self, redis_server: RedisServer, tmp_path: Path) -> None:
        done = bench(
            "--rounds", "2", "--rows", "tier_l1,tier_fill,put_memory", "--peers", "dict",
            "--redis-url", redis_server.url, "--json", str(tmp_path / "x.json"),
            "--report", str(tmp_path / "x.html"),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found = json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))["rows"]
        assert [row["name"] for row in found] == ["tier_l1", "tier_fill", "put_memory"]
        fill = found[1]["subjects"]
        assert set(fill) == {US, "bare redis-py"}
        assert [len(cell["extra"]["cpu"]) for cell in fill.values()] == [2, 2]
        assert fill[US]["error"] == ""
        assert found[1]["behind"] == []  # what is bare is no rival
        assert "1.6 x bare redis-py" in done.stdout

    def test_without_a_redis_the_row_says_so(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", "")
        row = next(row for row, _ in tiers.ROWS if row.name == "tier_fill")
        (measured,) = tiers.run_rows([row], [], 1, None)
        assert "--redis-url" in measured.cells[US].error


class TestInputs:
    def test_copies_are_equal_and_other_objects(self) -> None:
        for make in (inputs.ints, inputs.strings, inputs.tuples):
            keys = make(50)
            again = inputs.copies(keys)
            assert again == keys
            assert all(a is not b for a, b in zip(again, keys, strict=True))

    def test_zipf_is_skewed_and_repeatable(self) -> None:
        keys = inputs.zipf(5000, 1000)
        counts = sorted((keys.count(key) for key in set(keys)), reverse=True)
        assert keys == inputs.zipf.__wrapped__(5000, 1000)
        assert counts[0] > 20 * counts[len(counts) // 2]

    def test_words_are_words_of_the_library(self) -> None:
        words = inputs.stdlib_words(3000)
        assert len(words) == 3000
        assert {"import", "def", "return"} <= set(words)

    @pytest.mark.parametrize(
        ("word", "stem"),
        [("caching", "cach"), ("Entries", "entri"), ("relational", "relate"), ("set", "set")],
    )
    def test_stemmer(self, word: str, stem: str) -> None:
        assert inputs.stem(word) == stem
