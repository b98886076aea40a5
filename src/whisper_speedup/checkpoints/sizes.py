"""Whisper's published sizes: shapes, and how many parameters follow from them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from whisper_speedup.params.sources import SyntheticSize


@dataclass(frozen=True)
class Size:
    """A published shape. Heads are 64 wide, feed-forward layers 4 times `d_model`."""

    d_model: int
    encoder_layers: int
    decoder_layers: int
    vocab_size: int
    mels: int = 80

    @property
    def parameters(self) -> int:
        """Tied ones once, positions included."""
        wide = {f"{side}_ffn_dim": 4 * self.d_model for side in ("encoder", "decoder")}
        return parameters({**vars(self), **wide, "num_mel_bins": self.mels})


# Source: the model card of Whisper in openai/whisper, and the checkpoints' config.json on the hub.
SIZES: dict[SyntheticSize, Size] = {
    "tiny": Size(384, 4, 4, 51865),
    "tiny.en": Size(384, 4, 4, 51864),
    "base": Size(512, 6, 6, 51865),
    "base.en": Size(512, 6, 6, 51864),
    "small": Size(768, 12, 12, 51865),
    "small.en": Size(768, 12, 12, 51864),
    "medium": Size(1024, 24, 24, 51865),
    "medium.en": Size(1024, 24, 24, 51864),
    "large": Size(1280, 32, 32, 51865),
    "large-v2": Size(1280, 32, 32, 51865),
    "large-v3": Size(1280, 32, 32, 51866, mels=128),
    "large-v3-turbo": Size(1280, 32, 4, 51866, mels=128),
}
# The others are on the hub in fp32.
HALF_ON_THE_HUB = ("large-v3", "large-v3-turbo")


def parameters(config: Mapping[str, Any]) -> int:
    """How many parameters a Whisper with this config.json has, the token embedding once. Raises KeyError, TypeError.

    A layer: query, key (without bias), value and output projections, two feed-forward products, layer norms.
    """
    width = config["d_model"]
    attention, norm = 4 * width * width + 3 * width, 2 * width

    def feed_forward(inner: int) -> int:
        return 2 * width * inner + inner + width

    encoder = 3 * width * config["num_mel_bins"] + 3 * width * width + 2 * width  # two convolutions over 3 frames
    encoder += config.get("max_source_positions", 1500) * width + norm
    encoder += config["encoder_layers"] * (attention + feed_forward(config["encoder_ffn_dim"]) + 2 * norm)
    decoder = (config["vocab_size"] + config.get("max_target_positions", 448)) * width + norm
    decoder += config["decoder_layers"] * (2 * attention + feed_forward(config["decoder_ffn_dim"]) + 3 * norm)
    return int(encoder + decoder)
