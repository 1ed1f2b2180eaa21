"""The page about runs: what it says, and what a browser makes of it."""

import json
import re
import shutil
import subprocess
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tiny
from PIL import Image
from tiny import run_command

from enas.errors import UserError
from enas.report.page import comparison, curves, read_ablations, read_runs, report, settings_table
from enas.rnn.cell import RNNCell
from enas.runs import run
from enas.studies.ablations import node_removal

main = partial(run_command, "report")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
KINDS = {
    "rnn": {"train_type": "flexible", "num_blocks": 5, "derive_num_sample": 2},
    "macro": {"network_type": "cnn"},
    "micro": {"network_type": "cnn", "cnn_space": "micro"},
}
CELL = RNNCell(("tanh", "ReLU", "sigmoid", "tanh"), (0, 0, 2))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A search of each space, a run from scratch, and an ablation; pictures are drawn."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch, tiny.rendering():
        for name, kind in KINDS.items():
            run.train(run.Config(**tiny.settings(folder / name, **kind)))
        run.train(run.Config(**tiny.settings(folder / "rnn", mode="single", log_dir=str(folder / "single"))), CELL)
        # Of one name, as runs of two log_dirs that began in the same second: the page then names their long paths.
        run_of(folder, "single").rename(folder / "single" / run_of(folder, "rnn").name)
        patch.chdir(folder)
        assert run_command("ablate node_removal", [f"--load_path={run_of(folder, 'rnn')}"]) == 0
    return folder


def run_of(home, name: str):
    return tiny.only_run(home / "single" if name == "single" else home / name / "logs")


@pytest.fixture(scope="module")
def page(home):
    """The page about all of them, and where it lies."""
    path = report([run_of(home, name) for name in ("rnn", "macro", "micro", "single")], home / "report.html",
                  results_dir=home / "analysis_results")  # fmt: skip
    return path, path.read_text()


def test_it_needs_nothing_from_elsewhere(page):
    _, text = page
    assert not re.search(r"""(src|href)=["'](?!data:)""", text) and "@import" not in text and "<script" not in text


def test_the_curves_are_those_of_the_history(home):
    (record,) = read_runs([run_of(home, "rnn")], "logs")
    history = json.loads((record.folder / "results.json").read_text())["history"]
    shown = {figure.axes[0].get_ylabel(): drawn_in(figure) for figure in curves([record])}
    names = ("train_perplexity", "validation_perplexity", "reward", "entropy")
    train, validation, reward, entropy = ([entry[name] for entry in history] for name in names)
    times = [history[0]["wall_seconds"], history[1]["wall_seconds"] - history[0]["wall_seconds"]]
    assert shown == {
        "perplexity": {"train": train, "validation": validation},
        "reward": {record.name: reward},
        "entropy (nats)": {record.name: entropy},
        "seconds an epoch": {record.name: pytest.approx(times)},
    }


def test_rewards_of_texts_and_images_have_no_common_axis(home):
    """And a run has one colour on all of them."""
    drawn = curves(read_runs([run_of(home, "rnn"), run_of(home, "macro")], "logs"))
    names = ["perplexity", "accuracy", "reward (perplexity)", "reward (accuracy)", "entropy (nats)", "seconds an epoch"]
    assert [figure.axes[0].get_ylabel() for figure in drawn] == names
    colours = [{one.lines[0].get_color() for one in figure.axes[0].containers} for figure in drawn]
    assert list(map(len, colours)) == [1, 1, 1, 1, 2, 2] and colours[0] == colours[2] and colours[1] == colours[3]


def drawn_in(figure) -> dict[str, list[float]]:
    """The values of each line, by its name in the legend."""
    return {one.get_label(): one.lines[0].get_ydata().tolist() for one in figure.axes[0].containers}


def test_the_policy_is_compared_with_chance_by_medians_and_quartiles(home):
    (record,) = read_runs([run_of(home, "rnn")], "logs")
    figure, history = comparison(record), record.results["history"]
    assert figure.axes[0].get_ylabel() == history[0]["compared_by"].replace("_", " ")
    for container in figure.axes[0].containers:
        found = [entry[container.get_label()] for entry in history]
        assert drawn_in(figure)[container.get_label()] == [one["median"] for one in found]
        ends = np.array([segment[:, 1] for segment in container.lines[2][0].get_segments()])
        assert ends == pytest.approx(np.array([[one["lower_quartile"], one["upper_quartile"]] for one in found]))


def test_pictures_are_those_that_runs_and_ablations_wrote(page, home):
    path, text = page
    assert path.stat().st_size < 1_000_000
    shown = [path for name in KINDS for path in run_of(home, name).glob("networks/*.png")]
    shown += [run_of(home, name) / "policy.png" for name in KINDS]
    shown += [run_of(home, "single") / "architecture.png", *home.glob("analysis_results/*/*/*.png")]
    assert len(shown) == 2 * 3 + 3 + 1 + 1
    for path in shown:
        assert text.count(f'alt="{path.stem}"') == len([one for one in shown if one.stem == path.stem]), path
    # Beside scores and rewards by metric, entropy and seconds, and a comparison of each search, which are stubs here.
    embedded = re.findall('src="(.*?)"', text)
    assert len(embedded) == len(shown) + 6 + 3 and len(set(embedded)) == len(shown) + 1
    assert text.count('type="range"') == 3
    assert all(run_of(home, name).name in text for name in (*KINDS, "single"))
    assert "node removal · " in text and "without node 1" in text
    assert text.count("The derived architecture over time") == text.count("The controller's probabilities") == 3
    assert text.count("<h3>The architecture</h3>") == 1


def test_it_begins_with_what_came_out(page, home):
    sentences = re.findall("<p>(.*?)</p>", page[1].split("<table>")[0], re.DOTALL)
    results = json.loads((run_of(home, "rnn") / "results.json").read_text())
    says = f"found a recurrent cell with a validation perplexity of <strong>{results['validation_perplexity']:.2f}"
    assert says in " ".join(sentences[0].split())
    assert f"ranks {results['history'][-1]['place']} beside 2 random ones" in sentences[0]
    assert "trained its architecture to a validation perplexity of" in " ".join(sentences[3].split())


def test_a_rank_is_that_of_the_architecture_it_stands_beside(home, tmp_path):
    """Mode derive may give a run another architecture than the one that its last epoch ranked."""
    folder = shutil.copytree(run_of(home, "rnn"), tmp_path / "derived")
    results = json.loads((folder / "results.json").read_text())
    (folder / "results.json").write_text(json.dumps({**results, "validation_perplexity": 1.5}))
    text = report(folder, tmp_path / "page.html").read_text()
    assert "<strong>1.50</strong>" in text and "random ones" not in text


def test_a_long_run_and_many_runs_have_a_small_page(home, tmp_path):
    """A page has few pictures of architectures, each with few colours, so that it stays small."""
    long = shutil.copytree(run_of(home, "rnn"), tmp_path / "long")
    (first, *_) = long.glob("networks/*.png")
    for epoch in range(10, 110):
        shutil.copy(first, long / "networks" / f"{epoch}-1-1.0-best.png")
    path = report(long, tmp_path / "page.html")
    assert path.read_text().count("-best") == 12 and path.stat().st_size < 600_000
    assert report([long] * 4, tmp_path / "page.html").read_text().count("-best") == 4 * 3


def test_a_run_without_pictures_has_a_page(home, tmp_path):
    bare = shutil.copytree(run_of(home, "rnn"), tmp_path / "bare", ignore=shutil.ignore_patterns("*.png"))
    text = report(bare, tmp_path / "bare.html").read_text()
    assert text.count("<img ") == 4 + 1 and "The controller's probabilities" not in text


def test_a_picture_of_a_run_that_is_postscript_starts_no_program(home, tmp_path, monkeypatch):
    odd = shutil.copytree(run_of(home, "rnn"), tmp_path / "odd")
    Image.new("RGB", (4, 4)).save(odd / "policy.png", format="EPS")
    monkeypatch.setattr(subprocess, "Popen", lambda *args, **settings: pytest.fail("a program was started"))
    with pytest.raises(UserError, match=re.escape(f"{odd / 'policy.png'}: ")):
        report(odd, tmp_path / "odd.html")


def test_settings_that_differ_are_listed_side_by_side(home):
    records = read_runs([run_of(home, "rnn"), run_of(home, "macro")], "logs")
    table = dict(settings_table(records))
    assert table["shared_embed"] == ["8", "–"] and table["cnn_hid"] == ["–", "4"] and table["max_epoch"] == ["2", "2"]
    assert "controller_grad_clip" not in table and "log_dir" not in table


def test_ablations_are_those_of_the_run(home, tmp_path):
    """Runs of two log_dirs that began in the same second have one name, and the names of others begin alike."""
    (record,) = read_runs([run_of(home, "rnn")], "logs")
    (one,) = read_ablations([record], home / "analysis_results")
    assert one.results["rows"][0]["edit"] == "unedited" and one.name == f"node removal · {record.folder.name}"
    name = record.folder.name
    others = [shutil.copytree(run_of(home, kind), tmp_path / kind / name) for kind in ("rnn", "macro")]
    others.append(shutil.copytree(record.folder, tmp_path / name.rsplit("-", 1)[0]))
    assert read_ablations(read_runs(others, "logs"), home / "analysis_results") == []


def test_ablations_from_scratch_are_those_of_the_run_though_another_ones_name_begins_alike(home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs = [shutil.copytree(run_of(home, "rnn"), tmp_path / "logs" / name) for name in ("small", "small_b")]
    given = {"mode": "train_scratch", "max_epoch": 1, "shared_max_step": 1, "data_dir": str(home / "rnn" / "data")}
    node_removal(load_path=str(runs[1]), **given)
    found = [read_ablations(read_runs([one], "logs"), Path("analysis_results")) for one in runs]
    assert [len(some) for some in found] == [0, 1]


def test_names_cannot_put_anything_into_the_page(home, tmp_path):
    odd = shutil.copytree(run_of(home, "rnn"), tmp_path / r"<img src=x onerror=alert(1)>$\frac$")
    text = report(odd, tmp_path / "odd.html").read_text()
    assert "<img src=x" not in text


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--load_path", "nowhere", "--output", "a.html"], "load_path nowhere: no such run"),
        (["--load_path", "RUN", "--output", "a.pdf"], "output is a.pdf; its name must end in .html"),
        (["--load_path", "RUN"], "--output is missing"),
        (["--load_path", "EMPTY", "--output", "a.html"], "has no results yet; its first epoch has not ended"),
        (["--load_path", "ODD", "--output", "a.html"], "odd/results.json: the content is [], not dict ("),
        (
            ["--load_path", "BARE", "--output", "a.html"],
            "bare/results.json: AttributeError: 'int'",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_it_refuses(home, tmp_path, capsys, monkeypatch, argv, says):
    monkeypatch.chdir(tmp_path)
    found = run_of(home, "rnn")
    empty, odd, bare = (shutil.copytree(found, tmp_path / name) for name in ("empty", "odd", "bare"))
    (empty / "results.json").unlink()
    (odd / "results.json").write_text("[]")
    results = json.loads((found / "results.json").read_text())
    (bare / "results.json").write_text(json.dumps({**results, "history": [1]}))
    places = {"RUN": str(found), "EMPTY": str(empty), "ODD": str(odd), "BARE": str(bare)}
    assert says in tiny.refusal([places.get(word, word) for word in argv], tmp_path, capsys, main)


# What a visitor does: move the slider of a run to its start.
VISIT = """
<script>
window.addEventListener("load", () => {
  const slider = document.querySelector("input[type=range]");
  const shown = () => [...slider.parentNode.querySelectorAll("img")].filter(image => image.checkVisibility());
  const before = shown();
  slider.value = 0;
  slider.dispatchEvent(new Event("input"));
  const moved = before.length === 1 && shown().length === 1 && before[0] !== shown()[0];
  const images = [...document.images];
  const right = document.documentElement.clientWidth + 1;
  const found = {moved: moved, broken: images.filter(image => !image.naturalWidth).length,
    wide: images.filter(image => image.getBoundingClientRect().right > right).length};
  document.body.innerHTML = "<pre id=found></pre>";
  document.getElementById("found").textContent = JSON.stringify(found);
});
</script>
"""


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: apt install chromium")
@pytest.mark.parametrize("width", [500, 1400])
def test_a_browser_shows_it(page, tmp_path, width):
    _, text = page
    visited = tmp_path / "visited.html"
    visited.write_text(text.replace("</body>", f"{VISIT}</body>"))
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--window-size={width},900"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=20000", "--dump-dom"]
    done = subprocess.run([*command, f"file://{visited}"], capture_output=True, text=True, timeout=120, check=False)
    found = json.loads(re.search(r'<pre id="found">(.*?)</pre>', done.stdout)[1])
    assert found == {"moved": True, "broken": 0, "wide": 0}
