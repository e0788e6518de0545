"""Augmentation: one affine per sample moves image, AU map and landmarks together.

Parameters come from a counter hash of (seed, epoch, sample index), so they do not depend on batch size, order, threads
or the point at which a run was resumed. Torch images are ``(B, 3, H, W)``, points ``(x, y)`` in pixels with integer
coordinates at pixel centres.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float32, Float64, Int64, UInt8
from torch import Tensor

from aupipe.fer_data.errors import UserInputError, check_whole, paragraph
from aupipe.fer_data.geometry import FLIP_68
from aupipe.fer_data.loading.counters import counter_hash
from aupipe.fer_data.loading.fetch import Cuts

GREY = (0.299, 0.587, 0.114)
"""Luma weights of ITU-R BT.601."""

DRAWS = 14
"""Random numbers a sample uses per epoch."""

SCALES = (0.05, 20.0)
"""Source pixels per crop pixel, at least and at most: beyond, a crop shows a few pixels or is a few pixels large."""


@dataclass(frozen=True)
class AugmentConfig:
    """The bounds of what may happen to a training sample; ``enabled=False`` is the centre crop alone.

    Args:
        crop_size: Side of the crop in pixels.
        enabled: Whether anything happens besides the centre crop.
        flip: Probability of a mirror image.
        rotation: Largest angle in degrees, either way.
        rotation_p: Probability of a rotation.
        scale: Source pixels per crop pixel, from - to.
        brightness: Largest relative change.
        contrast: Largest relative change.
        grey: Probability of greyscale.
        erasing: Probability of a blank rectangle, in the image and in its map; attention there is not aligned.
        erasing_area: Its share of the crop, from - to.

    Example:
        >>> reader = aupipe.open_store("store").split("train")
        >>> loader = aupipe.TripletLoader(reader, 8, aupipe.AugmentConfig(crop_size=80, rotation=0))
        >>> next(loader.epoch(0)).image.shape
        torch.Size([8, 3, 80, 80])
    """

    crop_size: int
    enabled: bool = True
    flip: float = 0.5
    rotation: float = 6.0
    rotation_p: float = 0.5
    scale: tuple[float, float] = (0.9, 1.1)
    brightness: float = 0.3
    contrast: float = 0.3
    grey: float = 0.1
    erasing: float = 0.25
    erasing_area: tuple[float, float] = (0.02, 0.15)

    @property
    def only_moves(self) -> bool:
        """True where crops take whole pixels as they are, without rotation or scale: they can be cut while reading."""
        return not self.enabled or (set(self.scale) == {1} and 0 in (self.rotation, self.rotation_p))

    def check(self, image_size: int) -> None:
        """Raise :class:`UserInputError` when crop or scale do not fit images of ``image_size``."""
        check_whole(crop_size=self.crop_size)
        (least, most), (low, high) = SCALES, self.scale
        if not least <= low <= high <= most:
            raise UserInputError(
                paragraph("Crops cannot be scaled so.", expected=f"{least:g} <= from <= to <= {most:g}", got=self.scale)
            )
        if not 1 <= self.crop_size <= image_size:
            raise UserInputError(
                paragraph(
                    f"A crop of {self.crop_size} pixels does not fit.",
                    expected=f"1 to {image_size}, the image size of the store",
                    got=self.crop_size,
                    fix=f"Use --crop-size {image_size * 7 // 8}, or build the store with a larger --image-size.",
                )
            )


@dataclass(frozen=True)
class AugmentParameters:
    """The parameters of each sample of a batch.

    A crop pixel at ``q`` from the crop's centre shows the source pixel ``centre + scale * R(angle) * mirror(q)``.
    ``erase`` is a box ``x0 y0 x1 y1`` in shares of the crop (empty when ``x0 == x1``).
    """

    centre: Float64[np.ndarray, "b 2"]
    angle: Float64[np.ndarray, "b"]
    scale: Float64[np.ndarray, "b"]
    flip: np.ndarray
    brightness: Float64[np.ndarray, "b"]
    contrast: Float64[np.ndarray, "b"]
    grey: np.ndarray
    erase: Float64[np.ndarray, "b 4"]


def sample_parameters(
    config: AugmentConfig, seed: int, epoch: int, index: Int64[np.ndarray, "b"], image_size: int
) -> AugmentParameters:
    """Draw the parameters of some samples; with ``enabled=False`` the centre crop (offset rounded down)."""
    count, crop = len(index), config.crop_size
    if not config.enabled:
        middle = (image_size - crop) // 2 + (crop - 1) / 2
        zeros, ones = np.zeros(count), np.ones(count)
        off = np.zeros(count, bool)
        return AugmentParameters(np.full((count, 2), middle), zeros, ones, off, ones, ones, off, np.zeros((count, 4)))
    u = (counter_hash(seed, epoch, index, DRAWS) >> np.uint64(11)).astype(np.float64) * 2.0**-53
    scale = config.scale[0] + u[:, 0] * (config.scale[1] - config.scale[0])
    # The window stays inside the image where it fits; a window larger than the image is centred on it.
    slack = np.maximum(image_size - scale * crop, 0)[:, None]
    angle = np.where(u[:, 3] < config.rotation_p, (2 * u[:, 4] - 1) * np.deg2rad(config.rotation), 0.0)
    centre = (image_size - 1) / 2 + (u[:, 1:3] - 0.5) * slack
    if config.only_moves:
        centre = np.floor(u[:, 1:3] * (image_size - crop + 1)) + (crop - 1) / 2
    return AugmentParameters(
        centre=centre,
        angle=angle,
        scale=scale,
        flip=u[:, 5] < config.flip,
        brightness=1 + (2 * u[:, 6] - 1) * config.brightness,
        contrast=1 + (2 * u[:, 7] - 1) * config.contrast,
        grey=u[:, 8] < config.grey,
        erase=_erase_boxes(config, u[:, 9:14]),
    )


def _erase_boxes(config: AugmentConfig, u: Float64[np.ndarray, "b 5"]) -> Float64[np.ndarray, "b 4"]:
    low, high = config.erasing_area
    area = low + u[:, 1] * (high - low)
    aspect = np.exp((2 * u[:, 2] - 1) * np.log(2.0))
    size = np.minimum(np.sqrt(np.stack([area * aspect, area / aspect], 1)), 1)
    start = u[:, 3:5] * (1 - size)
    boxes = np.concatenate([start, start + size], 1)
    return np.where((u[:, 0] < config.erasing)[:, None], boxes, 0.0)


def pixel_cuts(config: AugmentConfig, parameters: AugmentParameters, image_size: int) -> Cuts | None:
    """Return the crops in whole pixels, where a configuration only moves; None where nothing is cut or more is done."""
    if not config.only_moves or (config.crop_size == image_size and not parameters.flip.any()):
        return None
    corner = np.rint(parameters.centre - (config.crop_size - 1) / 2).astype(np.int64)
    return Cuts(corner[:, 0], corner[:, 1], parameters.flip)


def cropped_map_size(crop_size: int, image_size: int, map_size: int) -> int:
    """Compute the side of the map that belongs to a crop: the map keeps its share of pixels per image pixel."""
    return max(round(crop_size * map_size / image_size), 1)


def crop_values(
    values: Float32[Tensor, "b k s s"], parameters: AugmentParameters, crop: int, image_size: int, out_size: int
) -> Float32[Tensor, "b k o o"]:
    """Sample images or maps of any resolution (``s``: whole image, ``o``: crop) through each sample's affine."""
    if (offset := _integer_offset(parameters, crop, image_size, values.shape[-1], out_size)) is not None:
        return values[..., offset : offset + out_size, offset : offset + out_size]
    cos, sin = np.cos(parameters.angle), np.sin(parameters.angle)
    mirror = np.where(parameters.flip, -1.0, 1.0)
    zoom = parameters.scale * crop / image_size
    linear = np.stack([cos * mirror, -sin, sin * mirror, cos], 1).reshape(-1, 2, 2) * zoom[:, None, None]
    # Pixel x of s lies at (2x + 1) / s - 1 in grid_sample's coordinates (align_corners=False), whatever the resolution.
    shift = (2 * parameters.centre + 1) / image_size - 1
    theta = torch.from_numpy(np.concatenate([linear, shift[:, :, None]], 2)).to(values.device, torch.float32)
    grid = F.affine_grid(theta, [len(theta), 1, out_size, out_size], align_corners=False)
    return F.grid_sample(values, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _integer_offset(parameters: AugmentParameters, crop: int, image_size: int, size: int, out: int) -> int | None:
    """Return the offset in pixels of ``values`` if plain slicing does the same as the affine, else None."""
    if parameters.angle.any() or parameters.flip.any() or (parameters.scale != 1).any() or not len(parameters.centre):
        return None
    if (parameters.centre != parameters.centre[0, 0]).any() or out * image_size != crop * size:
        return None
    offset = (parameters.centre[0, 0] - (crop - 1) / 2) * size / image_size
    return int(offset) if float(offset).is_integer() else None


def crop_landmarks(
    landmarks: Float32[np.ndarray, "b 68 2"], parameters: AugmentParameters, crop: int
) -> Float32[np.ndarray, "b 68 2"]:
    """Move landmarks of the source image to pixels of the crop; a flip renames them."""
    offset = np.asarray(landmarks, np.float64) - parameters.centre[:, None]
    cos, sin = np.cos(parameters.angle)[:, None], np.sin(parameters.angle)[:, None]
    x = cos * offset[..., 0] + sin * offset[..., 1]
    y = -sin * offset[..., 0] + cos * offset[..., 1]
    x = np.where(parameters.flip[:, None], -x, x)
    points = np.stack([x, y], -1) / parameters.scale[:, None, None] + (crop - 1) / 2
    points[parameters.flip] = points[parameters.flip][:, FLIP_68]
    return np.asarray(points, np.float32)


def erased(erase: Float64[np.ndarray, "b 4"], size: int, device: torch.device) -> Tensor:
    """Mark, in a boolean ``(B, size, size)``, the pixels whose centre lies in the sample's erasing box."""
    centres = (torch.arange(size, device=device, dtype=torch.float64) + 0.5) / size
    box = torch.from_numpy(erase).to(device)
    x = (centres >= box[:, 0:1]) & (centres < box[:, 2:3])
    y = (centres >= box[:, 1:2]) & (centres < box[:, 3:4])
    return y[:, :, None] & x[:, None, :]


def valid_pixels(parameters: AugmentParameters, size: int, device: torch.device) -> Float32[Tensor, "b s s"]:
    """Mark the pixels of a map that show what was photographed with 1, the erased ones with 0."""
    return (~erased(parameters.erase, size, device)).float()


def apply(
    config: AugmentConfig,
    parameters: AugmentParameters,
    images: UInt8[Tensor, "b s s 3"],
    maps: UInt8[Tensor, "b m m"],
    mean: Float32[Tensor, "3"],
    std: Float32[Tensor, "3"],
    cut_from: int | None = None,
) -> tuple[Float32[Tensor, "b 3 c c"], Float32[Tensor, "b o o"]]:
    """Crop, jitter, erase and normalise a batch on the device its tensors are on.

    An erased rectangle holds the mean colour in the image and 0 in the map.

    Args:
        config: Crop and augmentation.
        parameters: The parameters of each sample.
        images: uint8, whole, or the crops of :func:`pixel_cuts`.
        maps: uint8, whole.
        mean: Mean of the channels of images in [0, 1].
        std: Standard deviation of the channels of images in [0, 1].
        cut_from: Side of the whole images, when ``images`` hold the crops already.

    Returns:
        Normalised images, and maps in [0, 1] of :func:`cropped_map_size`.
    """
    size = cut_from or images.shape[1]
    pictures = apply_to_images(config, parameters, images, mean, std, cut=cut_from is not None)
    return pictures, apply_to_maps(config, parameters, maps.float() / 255, size)


def apply_to_images(
    config: AugmentConfig,
    parameters: AugmentParameters,
    images: UInt8[Tensor, "b s s 3"],
    mean: Float32[Tensor, "3"],
    std: Float32[Tensor, "3"],
    *,
    cut: bool = False,
) -> Float32[Tensor, "b 3 c c"]:
    """Apply the images' half of :func:`apply`; channels last. ``cut``: they are the crops already."""
    crop, size = config.crop_size, images.shape[1]
    pictures = images.permute(0, 3, 1, 2)
    if cut:
        pictures = pictures.float().div_(255)
    elif (offset := _integer_offset(parameters, crop, size, size, crop)) is not None:
        # Cut before the conversion, which then has less to convert.
        pictures = pictures[..., offset : offset + crop, offset : offset + crop].float().div_(255)
    else:
        pictures = crop_values(pictures.float().div_(255), parameters, crop, size, crop)
    if config.enabled:
        pictures = _jitter(pictures, parameters)
    pictures = pictures.sub_(mean[:, None, None]).div_(std[:, None, None])
    if parameters.erase.any():
        pictures.masked_fill_(erased(parameters.erase, crop, images.device)[:, None], 0.0)
    return pictures.contiguous(memory_format=torch.channels_last)


def apply_to_maps(
    config: AugmentConfig, parameters: AugmentParameters, maps: Float32[Tensor, "b m m"], image_size: int
) -> Float32[Tensor, "b o o"]:
    """Apply the maps' half of :func:`apply`: maps in [0, 1] that cover the whole image, at any resolution."""
    out_size = cropped_map_size(config.crop_size, image_size, maps.shape[-1])
    targets = crop_values(maps[:, None], parameters, config.crop_size, image_size, out_size)[:, 0]
    if parameters.erase.any():
        targets = targets * valid_pixels(parameters, out_size, maps.device)
    return targets.contiguous()


def _jitter(pictures: Float32[Tensor, "b 3 c c"], parameters: AugmentParameters) -> Float32[Tensor, "b 3 c c"]:
    if not parameters.grey.any() and (parameters.brightness == 1).all() and (parameters.contrast == 1).all():
        return pictures

    def column(values: np.ndarray) -> Tensor:
        return torch.from_numpy(np.asarray(values, np.float32)).to(pictures.device)[:, None, None, None]

    luma = (pictures * torch.tensor(GREY, device=pictures.device)[:, None, None]).sum(1, keepdim=True)
    pictures = torch.lerp(pictures, luma.expand_as(pictures), column(parameters.grey))
    pictures = pictures * column(parameters.brightness)
    level = pictures.mean((1, 2, 3), keepdim=True)
    return ((pictures - level) * column(parameters.contrast) + level).clamp(0, 1)
