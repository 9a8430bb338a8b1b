"""One suite for every model folder: the file keeps its contract, and broken files are refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from holon_xapp import ModelError, load_model

from controller.xapp_descriptor import load_descriptor, verify_models
from models.contract import ContractError, main, model_folders, read_contract, verify
from models.demand_forecast.shape import HISTORY_STEPS
from models.onnx_file import NotOnnx, opset_of

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDERS = model_folders()
DEMAND = REPOSITORY / "models" / "demand_forecast"
MOBILITY = REPOSITORY / "models" / "mobility_forecast"
RESIDENCE = REPOSITORY / "models" / "residence_forecast"
Float32Array = npt.NDArray[np.float32]

each_model = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)


def random_inputs(folder: Path, batch: int, seed: int = 0) -> dict[str, Float32Array]:
    """Inputs within each slot's range."""
    random = np.random.default_rng(seed)
    inputs = {}
    for tensor in read_contract(folder).inputs:
        shape = [size if isinstance(size, int) else batch for size in tensor.shape]
        low, high = np.array([slot.range for slot in tensor.slots]).T
        inputs[tensor.name] = (low + (high - low) * random.random(shape)).astype(np.float32)
    return inputs


def test_there_are_models_and_all_verify(capsys: pytest.CaptureFixture[str]) -> None:
    assert DEMAND in FOLDERS
    assert main([]) == 0
    assert capsys.readouterr().out.count("opset") == len(FOLDERS)


@each_model
@pytest.mark.parametrize("batch", [1, 3, 64])
def test_shapes_and_finite_numbers(folder: Path, batch: int) -> None:
    contract = verify(folder)
    outputs = load_model(folder)(**random_inputs(folder, batch))
    for tensor, output in zip(contract.outputs, outputs, strict=True):
        assert list(output.shape) == [s if isinstance(s, int) else batch for s in tensor.shape]
        assert output.dtype == np.float32
        assert np.isfinite(output).all()


@each_model
@pytest.mark.parametrize("value", [0.0, 1e-6, 1.0, 100.0])
def test_extremes_stay_finite(folder: Path, value: float) -> None:
    inputs = {k: np.full_like(v, value) for k, v in random_inputs(folder, 2).items()}
    assert all(np.isfinite(output).all() for output in load_model(folder)(**inputs))


@each_model
def test_not_a_number_does_not_pass_as_a_forecast(folder: Path) -> None:
    inputs = random_inputs(folder, 2)
    next(iter(inputs.values()))[0] = np.nan
    assert not np.isfinite(load_model(folder)(**inputs)[0][0]).any()


@each_model
def test_quantiles_never_cross_nor_fall_below_zero(folder: Path) -> None:
    contract = read_contract(folder)
    outputs = load_model(folder)(**random_inputs(folder, 512))
    several = [o for t, o in zip(contract.outputs, outputs, strict=True) if len(t.quantiles) > 1]
    assert several
    for output in several:
        assert (np.diff(output, axis=-1) >= 0).all()
        assert (output >= 0).all()


@each_model
def test_same_input_same_output_whatever_the_batch(folder: Path) -> None:
    inputs = random_inputs(folder, 32)
    whole = load_model(folder)(**inputs)
    again = load_model(folder)(**inputs)
    assert all(np.array_equal(a, b) for a, b in zip(whole, again, strict=True))
    for index in (0, 31):
        alone = load_model(folder)(**{k: v[index : index + 1] for k, v in inputs.items()})
        for one, of_all in zip(alone, whole, strict=True):
            assert np.allclose(one[0], of_all[index], rtol=1e-4, atol=1e-5)


@each_model
def test_wrong_inputs_are_refused(folder: Path) -> None:
    model = load_model(folder)
    (name, values), *_ = random_inputs(folder, 2).items()
    for wrong in ({name: values[:, 1:]}, {name: values.astype(np.float64)}, {"other": values}):
        with pytest.raises(ModelError, match=folder.name):
            model(**wrong)


@pytest.mark.parametrize(
    "descriptor", sorted(REPOSITORY.glob("xapps/*/config-file.json")), ids=lambda p: p.parent.name
)
def test_descriptors_state_the_hash_of_the_model_there_is(descriptor: Path) -> None:
    for model in verify_models(load_descriptor(descriptor.parent), descriptor.parent, REPOSITORY):
        assert model.contract is not None
        assert verify(model.contract.parent).sha256 == model.sha256


def test_the_demand_forecast_beats_its_baselines_on_held_out_data() -> None:
    """As training wrote them; `python -m models.demand_forecast.evaluate` measures them anew."""
    metrics = read_contract(DEMAND).metrics
    assert {"scenarios", "random"} <= set(metrics)
    for source, table in metrics.items():
        model = table.pop("model")
        assert len(table) == 3
        for name, baseline in table.items():
            assert model["pinball"] < baseline["pinball"], f"{source}: {name}"
            assert model["mase"] < baseline["mase"], f"{source}: {name}"
        assert model["coverage_p97"] > 0.93, source


def test_the_mobility_forecast_beats_its_baselines_on_held_out_drives() -> None:
    """As training wrote them; `python -m models.mobility_forecast.evaluate` measures them anew."""
    metrics = read_contract(MOBILITY).metrics
    assert {"scenarios", "emulated drives", "5g-traces drives"} <= set(metrics)
    for source, table in metrics.items():
        model = table.pop("model")
        assert model["mase"] < 0.9
        assert len(table) == 3
        for name, baseline in table.items():
            assert model["distance_m"] < baseline["distance_m"], f"{source}: {name}"
            assert model["radius_p90_m"] < baseline["radius_p90_m"], f"{source}: {name}"
        assert model["coverage_p90"] > 0.85, source


def test_the_residence_forecast_beats_its_baselines_on_held_out_drives() -> None:
    """As training wrote them; `python -m models.residence_forecast.evaluate` measures them anew."""
    metrics = read_contract(RESIDENCE).metrics
    assert set(metrics) == {"until", "stay"}
    for quantity, table in metrics.items():
        model = table.pop("model")
        assert table
        for name, baseline in table.items():
            assert model["pinball_s"] < baseline["pinball_s"], f"{quantity}: {name}"
            assert model["mae_s"] < baseline["mae_s"], f"{quantity}: {name}"
        assert model["coverage_p10_p90"] > 0.75, quantity


# -- what training needs -----------------------------------------------------------------------


def test_exported_mobility_model_computes_what_the_network_computes() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed (requirements/train.in)")
    from models.mobility_forecast.network import MobilityForecast
    from models.training import WEIGHTS_FILE

    network = MobilityForecast()
    weights = np.load(MOBILITY / WEIGHTS_FILE)
    network.load_state_dict({name: torch.from_numpy(weights[name]) for name in weights.files})
    positions = random_inputs(MOBILITY, 256)["positions"]
    positions[:64] *= 0.01
    positions[0] = 0  # a user who stands
    with torch.no_grad():
        expected = network.eval()(torch.from_numpy(positions))
    for exported, wanted in zip(load_model(MOBILITY)(positions=positions), expected, strict=True):
        assert np.abs(exported - wanted.numpy()).max() <= 1e-4


def test_exported_residence_model_computes_what_the_network_computes() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed (requirements/train.in)")
    from models.residence_forecast.network import ResidenceForecast
    from models.training import WEIGHTS_FILE

    network = ResidenceForecast()
    weights = np.load(RESIDENCE / WEIGHTS_FILE)
    network.load_state_dict({name: torch.from_numpy(weights[name]) for name in weights.files})
    features = random_inputs(RESIDENCE, 256)["features"]
    with torch.no_grad():
        expected = network.eval()(torch.from_numpy(features))
    for exported, wanted in zip(load_model(RESIDENCE)(features=features), expected, strict=True):
        assert np.abs(exported - wanted.numpy()).max() <= 1e-4


def test_exported_model_computes_what_the_network_computes() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed (requirements/train.in)")
    from models.demand_forecast.network import DemandForecast
    from models.training import WEIGHTS_FILE

    network = DemandForecast()
    weights = np.load(DEMAND / WEIGHTS_FILE)
    network.load_state_dict({name: torch.from_numpy(weights[name]) for name in weights.files})
    history = random_inputs(DEMAND, 256)["history"]
    history[:64, :, 0] *= 0.01
    with torch.no_grad():
        expected = network.eval()(torch.from_numpy(history)).numpy()
    (exported,) = load_model(DEMAND)(history=history)
    assert np.abs(exported - expected).max() <= 1e-5


def test_exporting_again_gives_the_same_file() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed (requirements/train.in)")
    pytest.importorskip("onnxscript", reason="onnxscript is not installed (requirements/train.in)")
    from models.demand_forecast.network import DemandForecast
    from models.onnx_export import OPSET, onnx_bytes

    torch.manual_seed(3)
    network = DemandForecast()
    example = torch.rand(2, HISTORY_STEPS, 2)
    content = onnx_bytes(network, example, "history", ["quantiles"])
    assert content == onnx_bytes(network, example, "history", ["quantiles"])
    assert opset_of(content) == OPSET
    assert str(REPOSITORY).encode() not in content


# -- breaches ----------------------------------------------------------------------------------


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    folder = tmp_path / "demand_forecast"
    folder.mkdir()
    for name in ("model.json", "model.onnx"):
        shutil.copy(DEMAND / name, folder)
    return folder


def restate(folder: Path, **changes: object) -> None:
    path = folder / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_an_altered_file_is_refused(copied: Path) -> None:
    content = bytearray((copied / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (copied / "model.onnx").write_bytes(content)
    with pytest.raises(ContractError, match="model.onnx: SHA-256 .* the contract states"):
        verify(copied)
    with pytest.raises(ModelError, match="model.onnx has SHA-256 .* states"):
        load_model(copied)


def test_another_hash_in_the_descriptor_is_refused(copied: Path) -> None:
    with pytest.raises(ModelError, match="descriptor states 000"):
        load_model(copied, sha256="0" * 64)


@pytest.mark.parametrize("content", [b"", b"\xff" * 40, b"not a model", b"\x08\x07"])
def test_what_is_no_model_is_refused(copied: Path, content: bytes) -> None:
    import hashlib

    (copied / "model.onnx").write_bytes(content)
    restate(copied, sha256=hashlib.sha256(content).hexdigest(), size_bytes=max(1, len(content)))
    with pytest.raises(ContractError):
        verify(copied)
    with pytest.raises(ModelError, match="model.onnx does not load"):
        load_model(copied)
    with pytest.raises(NotOnnx):
        opset_of(content)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"opset": 19}, "opset 18, the contract states 19"),
        ({"opset": 9}, "opset: Input should be greater"),
        ({"size_bytes": 10**9}, "size_bytes: Input should be less"),
        ({"outputs": []}, "outputs: List should have at least 1"),
        ({"file": "other.onnx"}, "other.onnx: No such file"),
        ({"note": "x"}, "note: Extra inputs"),
    ],
)
def test_a_contract_that_is_not_kept_names_the_term(
    copied: Path, changes: dict[str, object], message: str
) -> None:
    restate(copied, **changes)
    with pytest.raises(ContractError, match=message) as refusal:
        verify(copied)
    assert "\n" not in str(refusal.value)


def test_tensors_must_be_as_stated(copied: Path) -> None:
    outputs = json.loads((copied / "model.json").read_text())["outputs"]
    restate(copied, outputs=[{**outputs[0], "name": "levels"}])
    with pytest.raises(ContractError, match="outputs .*quantiles.* the contract states .*levels"):
        verify(copied)
    with pytest.raises(ModelError, match="levels"):
        load_model(copied)


def test_weights_in_another_file_are_refused(copied: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed (requirements/train.in)")
    import hashlib

    model = onnx.load(copied / "model.onnx")
    onnx.save(
        model,
        copied / "model.onnx",
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )
    content = (copied / "model.onnx").read_bytes()
    restate(copied, sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content))
    assert (copied / "weights.bin").is_file()
    with pytest.raises(ContractError, match="does not load"):
        verify(copied)


def test_slots_must_fill_the_last_dimension(copied: Path) -> None:
    inputs = json.loads((copied / "model.json").read_text())["inputs"]
    inputs[0]["slots"].pop()
    restate(copied, inputs=inputs)
    with pytest.raises(ContractError, match="'history' has 1 slots"):
        verify(copied)


def test_main_says_in_one_line_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path)]) == 1
    assert capsys.readouterr().err == f"{tmp_path / 'model.json'}: No such file or directory\n"
