"""Configurations: inheritance, overrides, and every mistake named at once."""

from pathlib import Path

import pytest
from pydantic import Field

from common.config import Section, apply_overrides, describe, load_yaml, validate
from common.errors import UserError
from dvr.config import DVRConfig
from idr.config import IDRConfig
from scripts.method import load_config
from tests.make_run import ROOT, run_script

CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder


def refusal(overrides: list[str], tmp_path: Path, method: str = "dvr") -> str:
    """What is said about a valid file with these settings over it."""
    write(tmp_path, base=f"method: {method}\n")
    with pytest.raises(UserError) as refused:
        load_config(str(tmp_path / "base.yaml"), overrides)
    message = str(refused.value)
    assert "\n" not in message
    return message


class TestInheritance:
    def test_files_merge_key_by_key_from_the_oldest(self, tmp_path) -> None:
        write(
            tmp_path,
            old="a: 1\nnested: {x: 1, y: 1, list: [1, 2]}\n",
            middle="inherit_from: old.yaml\nnested: {y: 2}\nb: 2\n",
            young="inherit_from: middle.yaml\nnested: {list: [3]}\nb: 3\n",
        )
        assert load_yaml(tmp_path / "young.yaml") == {
            "a": 1,
            "b": 3,
            "nested": {"x": 1, "y": 2, "list": [3]},
        }

    def test_the_parent_lies_beside_the_child_wherever_one_stands(self, tmp_path, monkeypatch):
        (tmp_path / "sub").mkdir()
        write(tmp_path, old="a: 1\n")
        write(tmp_path / "sub", young="inherit_from: ../old.yaml\n")
        monkeypatch.chdir("/")
        assert load_yaml(tmp_path / "sub" / "young.yaml") == {"a": 1}

    def test_an_empty_file_inherits_everything_and_null_replaces(self, tmp_path) -> None:
        write(tmp_path, old="a: {b: 1}\n", young="inherit_from: old.yaml\na: null\n", empty="")
        assert load_yaml(tmp_path / "empty.yaml") == {}
        assert load_yaml(tmp_path / "young.yaml") == {"a": None}

    @pytest.mark.parametrize("parents", [("one", "one"), ("two", "one")])
    def test_a_circle_is_named(self, tmp_path, parents) -> None:
        write(
            tmp_path,
            one=f"inherit_from: {parents[0]}.yaml\n",
            two=f"inherit_from: {parents[1]}.yaml\n",
        )
        with pytest.raises(UserError, match=r"one\.yaml: inherit_from comes back"):
            load_yaml(tmp_path / "one.yaml")

    @pytest.mark.parametrize(
        "text,message",
        [
            ("inherit_from: nowhere.yaml\n", r"nowhere\.yaml: no such configuration"),
            ("inherit_from: 3\n", r"one\.yaml: inherit_from must be a path"),
            ("inherit_from: a\n\n  b.yaml\n", r"one\.yaml: inherit_from must be .* 'a\\nb.yaml'"),
            ("a: [1\nb: 2\n", r"one\.yaml, line 2: not valid YAML"),
            ("- a\n- b\n", r"one\.yaml: expected 'key: value' lines, found a list"),
            ("just words\n", r"one\.yaml: expected 'key: value' lines, found a str"),
        ],
    )
    def test_an_unusable_file_is_named(self, tmp_path, text, message) -> None:
        write(tmp_path, one=text)
        with pytest.raises(UserError, match=message):
            load_yaml(tmp_path / "one.yaml")

    @pytest.mark.parametrize("variant", ["ShapeNet_paper", "NMR_rgb", "ShapeNet_combined"])
    def test_nothing_tuned_for_a_laptop_reaches_the_papers_dvr(self, variant) -> None:
        config = load_config(str(ROOT / "configs" / f"dvr_{variant}.yaml"))
        assert isinstance(config, DVRConfig)
        model, losses, training = config.model, config.losses, config.training
        assert (model.code, model.frequencies) == (256, 0)
        assert (model.encoder.width, model.encoder.norm_groups) == (64, 1)
        assert (losses.rgb, losses.freespace, losses.occupancy, losses.hull) == (1, 1, 1, 0)
        assert config.supervision.object_share == 0 == config.supervision.hull_points
        assert (config.data.mirror, config.data.colour_jitter) == ("none", 0)
        assert training.objects == 64 and training.learning_rate == 1e-4


class TestOverrides:
    def test_values_are_typed_and_sections_kept(self, tmp_path) -> None:
        write(tmp_path, base="method: dvr\ntraining: {rays: 7}\n")
        config = load_config(
            str(tmp_path / "base.yaml"),
            [
                "training.learning_rate=5e-4",
                "training.clip_gradient=null",
                "training.milestones=[10, 20]",
                "data.mirror=x",
                "data.path=a=b",
                "model.encoder.kind=resnet50",
                "supervision.always_freespace=false",
            ],
        )
        # YAML reads 5e-4 as a word; the type of the key makes it a number.
        assert config.training.learning_rate == 5e-4
        assert config.training.rays == 7
        assert config.training.clip_gradient is None
        assert config.training.milestones == (10, 20)
        assert config.data.mirror == "x"
        assert config.data.path == "a=b"
        assert config.model.encoder.kind == "resnet50"
        assert config.supervision.always_freespace is False

    def test_the_last_one_counts(self) -> None:
        assert apply_overrides({"a": {"b": 1}}, ["a.b=2", "a.b=3", "a.c=4"]) == {
            "a": {"b": 3, "c": 4}
        }

    @pytest.mark.parametrize("text", ["training.rays", "=5", "--rays"])
    def test_what_is_no_setting_is_quoted(self, text) -> None:
        with pytest.raises(UserError, match=f"'{text}': expected section.key=value"):
            apply_overrides({}, [text])

    def test_a_malformed_value_is_quoted(self) -> None:
        with pytest.raises(UserError, match=r"'a.b=\[1, 2': the value is not valid YAML"):
            apply_overrides({}, ["a.b=[1, 2"])


class TestMistakes:
    def test_the_nearest_key_is_named(self, tmp_path) -> None:
        message = refusal(["training.iteratoins=5"], tmp_path)
        assert "base.yaml" in message
        assert "unknown key 'training.iteratoins' (did you mean 'training.iterations'?)" in message

    def test_a_key_like_no_other_points_to_the_list(self, tmp_path) -> None:
        assert "train.py --help-config" in refusal(["qqq=5"], tmp_path)

    @pytest.mark.parametrize(
        "setting,names",
        [
            ("training.rays=many", "'training.rays': input should be a valid integer"),
            ("training.rays=1.5", "'training.rays'"),
            ("training.rays=0", "greater than or equal to 1, got 0"),
            ("training.learning_rate=-1", "'training.learning_rate': input should be greater"),
            ("training.learning_rate=.nan", "'training.learning_rate'"),
            ("training.learning_rate=.inf", "'training.learning_rate'"),
            ("training.decay=linear", "'steps', 'cosine' or 'none', got 'linear'"),
            ("training.seed=-1", "'training.seed'"),
            ("model.initial_radius=0.5", "'model.initial_radius'"),
            ("data.views=3", "'data.views'"),
            ("march.threshold=1", "'march.threshold'"),
            ("training=5", "'training'"),
            ("method=nerf", "'method' is 'nerf'; expected dvr or idr"),
            ("losses.rgb=null", "'losses.rgb'"),
        ],
    )
    def test_key_and_value_are_named(self, tmp_path, setting, names) -> None:
        assert names in refusal([setting], tmp_path)

    def test_all_problems_come_at_once(self, tmp_path) -> None:
        message = refusal(
            ["trainig.rays=5", "model.hiden=8", "training.rays=x", "losses.rgb=-1"], tmp_path
        )
        for key in ("'trainig'", "'model.hiden'", "'training.rays'", "'losses.rgb'"):
            assert message.count(key) == 1

    def test_a_missing_method_is_named(self, tmp_path) -> None:
        write(tmp_path, base="training: {rays: 1}\n")
        with pytest.raises(UserError, match="'method' is required and missing"):
            load_config(str(tmp_path / "base.yaml"))

    def test_required_keys_of_any_model(self) -> None:
        class Inner(Section):
            size: int = Field(description="a size")

        class Outer(Section):
            inner: Inner

        with pytest.raises(UserError, match="here: 'inner.size' is required and missing"):
            validate(Outer, {"inner": {}}, "here")


class TestRulesBetweenKeys:
    @pytest.mark.parametrize(
        "settings,message",
        [
            (["model.code=0"], "encoder.kind none goes with code: 0"),
            (["model.encoder.kind=none"], "encoder.kind none goes with code: 0"),
            (["model.encoder={kind: simple, weights: a.pth}"], "weights are for a resnet"),
            (["march.samples=[]"], "samples must start at iteration 0"),
            (["march.samples=[[5, 16]]"], "samples must start at iteration 0"),
            (["march.samples=[[0, 16], [9, 32], [9, 64]]"], "increasing iterations"),
            (["march.samples=[[0, 1]]"], "at least 2 per ray"),
            (
                ["losses={rgb: 0, normal: 0, freespace: 0, occupancy: 0}"],
                "every loss has weight 0",
            ),
            (["model.colour=false"], "losses.rgb needs model.colour: true"),
            (["losses.image_gradient=1"], "needs supervision.patch >= 2"),
            (["losses.hull=1"], "losses.hull and supervision.hull_points go together"),
            (["supervision.hull_points=8"], "losses.hull and supervision.hull_points go together"),
            (["supervision.patch=3", "training.rays=32"], "multiple of supervision.patch squared"),
            (["generation.resolution=100"], "power of two"),
            (["generation={resolution: 24, coarse_resolution: 16}"], "power of two"),
        ],
    )
    def test_what_does_not_fit_together_is_refused(self, tmp_path, settings, message) -> None:
        assert message in refusal(settings, tmp_path)

    def test_what_fits_is_accepted(self, tmp_path) -> None:
        write(tmp_path, base="method: dvr\n")
        config = load_config(
            str(tmp_path / "base.yaml"),
            [
                "model={code: 0, encoder: {kind: none}}",
                "losses={hull: 1, image_gradient: 1}",
                "supervision={hull_points: 8, patch: 4}",
                "training.rays=32",
                "march.samples=[[0, 16], [9, 32]]",
                "generation={resolution: 16}",
            ],
        )
        assert config.model.code == 0


def test_no_checkpoint_is_chosen_by_the_views_that_are_scored() -> None:
    idr = IDRConfig.model_validate({"method": "idr", "data": {"path": "x"}})
    assert idr.training.select_by is None
    assert DVRConfig.model_validate({"method": "dvr"}).training.select_by == "mask_iou"


class TestIDR:
    """The second method's own keys, read and refused the same way."""

    @pytest.mark.parametrize(
        "settings,message",
        [
            (["losses={rgb: 0, mask: 0}"], "losses.rgb and losses.mask are both 0"),
            (["cameras.focal=true"], "cameras.focal needs cameras.refine: true"),
            (
                ["model.hash_grid={coarsest: 64, finest: 8}"],
                "'model.hash_grid': finest: 8 is below coarsest: 64",
            ),
            (
                ["model.mlp={hidden: 64, frequencies: 12}"],
                "'model.mlp': hidden: 64 leaves no room for the 75 numbers of the encoding",
            ),
            (["model.geometry=sdf"], "'hash_grid' or 'mlp', got 'sdf'"),
            (["model.initial_radius=1"], "'model.initial_radius'"),
            (["model.apearance.hidden=8"], "did you mean 'model.appearance'"),
            (["supervision.object_share=1"], "'supervision.object_share'"),
            (["training.select_by=depth_error"], "'mask_iou' or 'psnr', got 'depth_error'"),
            (["march.samples=[[0, 16]]"], "unknown key 'march'"),
        ],
    )
    def test_mistakes_are_named(self, tmp_path, settings, message) -> None:
        assert message in refusal(settings, tmp_path, "idr")

    def test_what_fits_is_accepted(self, tmp_path) -> None:
        write(tmp_path, base="method: idr\n")
        overrides = [
            "model.mlp={hidden: 64, frequencies: 12, skip: 0}",
            "model.hash_grid={coarsest: 8, finest: 8}",
            "cameras={refine: true, focal: true}",
            "losses={rgb: 0, alpha_milestones: [100, 0.5]}",
        ]
        config = load_config(str(tmp_path / "base.yaml"), overrides)
        assert isinstance(config, IDRConfig) and config.losses.alpha_milestones == (100, 0.5)

    def test_without_settings_it_is_the_papers_network_and_loss(self, tmp_path) -> None:
        write(tmp_path, base="method: idr\n")
        for path in (tmp_path / "base.yaml", ROOT / "configs" / "idr_DTU_paper.yaml"):
            config = load_config(str(path))
            assert isinstance(config, IDRConfig)
            mlp, losses = config.model.mlp, config.losses
            assert config.model.geometry == "mlp" and config.model.feature == 256
            assert (mlp.hidden, mlp.layers, mlp.skip, mlp.frequencies) == (512, 8, 4, 6)
            assert (losses.rgb, losses.mask, losses.eikonal, losses.alpha) == (1, 100, 0.1, 50)
            assert config.training.rays == 2048 and config.training.learning_rate == 1e-4

    @pytest.mark.parametrize("left_out", ["view_dir", "normal", "feature"])
    def test_ablations_leave_out_what_they_are_named_after(self, left_out) -> None:
        config = load_config(str(ROOT / "configs" / f"idr_DTU_no_{left_out}.yaml"))
        whole = load_config(str(ROOT / "configs" / "idr_DTU.yaml"))
        assert isinstance(config, IDRConfig) and isinstance(whole, IDRConfig)
        seen = config.model.appearance
        # A reflected direction is the normal's doing.
        assert {
            "view_dir": seen.view != "none",
            "normal": seen.normal or seen.view == "reflected",
            "feature": seen.feature,
        } == {name: name != left_out for name in ("view_dir", "normal", "feature")}
        assert config.losses == whole.losses and config.model.hash_grid == whole.model.hash_grid


class TestWhatComesAlong:
    @pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
    def test_every_configuration_is_valid(self, path) -> None:
        assert load_config(str(path)).method == path.stem.split("_")[0]

    def test_each_has_its_own_run_folder_named_after_it(self) -> None:
        for path in CONFIGS:
            assert load_config(str(path)).training.out_dir == f"out/{path.stem}"

    def test_every_key_has_one_line_of_description(self) -> None:
        for model in (DVRConfig, IDRConfig):
            for key, _, meaning in describe(model):
                assert meaning and "\n" not in meaning, key

    def test_help_lists_every_key_with_its_default(self) -> None:
        outcome = run_script("train", "--help-config")
        assert outcome.code == 0
        lines = outcome.out.splitlines()
        start = 0
        for method, model in (("dvr", DVRConfig), ("idr", IDRConfig)):
            start = lines.index(f"# method: {method}", start)
            for key, default, meaning in describe(model):
                at = lines.index(f"{key} = {default}", start)
                assert lines[at + 1].strip() == meaning
        assert "training.learning_rate = 0.0001" in lines
        assert "method = required" in lines
