"""Speech and weights for a worker: where the driver sees them, or brought to a machine that does not."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from whisper_speedup.checkpoints.identity import Checkpoint
from whisper_speedup.errors import UserError
from whisper_speedup.params.profile import FeaturesPlace
from whisper_speedup.params.sources import Bundled, Hub, Local, Synthetic
from whisper_speedup.run.decoding import FeaturesOf
from whisper_speedup.run.job import Source
from whisper_speedup.run.messages import Item


@dataclass(frozen=True)
class Clips:
    """The clips of a manifest. A clip that an item does not bring along is read from beside the manifest.

    `features`: where they are computed, as `measure.features` says.
    """

    manifest: Path
    features: FeaturesPlace

    def absolute(self) -> "Clips":
        """The same for a process that runs in another folder."""
        return replace(self, manifest=Path(os.path.abspath(self.manifest)))

    def visible(self) -> bool:
        """Whether this machine sees the manifest's folder."""
        return self.manifest.is_file()

    def open(self, model_dir: Path, device: torch.device) -> FeaturesOf:
        """Log-mel features, as the checkpoint in `model_dir` wants them."""
        from transformers import WhisperFeatureExtractor

        from whisper_speedup.audio import manifest
        from whisper_speedup.audio.features import features_on

        extractor = WhisperFeatureExtractor.from_pretrained(model_dir)

        def features_of(item: Item) -> torch.Tensor:
            content = manifest.read_audio(self.manifest, item.row) if item.audio is None else item.audio
            audio = manifest.samples_of(content, self.manifest, item.row)
            return features_on(device, audio, extractor, self.features)

        return features_of


@dataclass(frozen=True)
class Kept:
    """The features of a few clips, all made before the engine loads: a turn is decoding and nothing else."""

    source: Source
    items: list[Item]

    def visible(self) -> bool:
        """As the source."""
        return self.source.visible()

    def open(self, model_dir: Path, device: torch.device) -> FeaturesOf:
        """Features that stay on the device. Raises UserError for a clip that cannot be read."""
        features_of = self.source.open(model_dir, device)
        kept = {item.at: features_of(item) for item in self.items}
        return lambda item: kept[item.at]


@dataclass(frozen=True)
class Checked:
    """Weights in a folder of this machine, whose hashes the driver has checked."""

    path: Path

    def folder(self) -> Path:
        """The folder."""
        return self.path


@dataclass(frozen=True)
class Recorded:
    """The weights that `told`, the content of model.json, describes: used where the driver has them if that folder is
    visible here, else brought here as the model stage does (`model` says from where). Their hashes are checked."""

    model: Bundled | Hub | Local | Synthetic
    told: Checkpoint
    path: Path

    def folder(self) -> Path:
        """The folder. Raises UserError for weights that are neither visible nor to be had, or are others."""
        from whisper_speedup.checkpoints.prepare import check_files, prepare

        if self.path.is_dir():
            return check_files(self.told, self.path, f"{self.path}/model.json")
        if isinstance(self.model, Local):
            raise UserError(
                f"a worker does not see {self.path}: put the weights on storage that all machines share, or use a model"
                " of source hub."
            )
        model = self.model
        if isinstance(model, Hub):
            model = model.model_copy(update={"revision": self.told.revision})
        brought = prepare(model, _cache())
        return check_files(self.told, Path(brought.path), "the driver's model.json")


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "whisper-speedup" / "models"
