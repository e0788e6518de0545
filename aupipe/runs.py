"""A trained run, asked about images in memory: its predictions, and the maps of where it looks."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from aupipe.fer_analysis.explain import view
from aupipe.fer_analysis.explain.opened import FacePrediction, OpenRun, open_run
from aupipe.fer_data.errors import UserInputError, paragraph, unknown_name
from aupipe.fer_data.preparation import AlignedFace
from aupipe.fer_data.shards import Store
from aupipe.fer_data.types import Reason
from aupipe.pipeline.photos import PhotoPreparer
from aupipe.results import Faces, Maps, Predictions

Images = UInt8[np.ndarray, "..."] | Sequence[np.ndarray]
"""One image ``(h, w, 3)``, a batch ``(n, h, w, 3)``, or a list of images of any sizes; RGB uint8."""

_IDENTITY = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


@dataclass(frozen=True, repr=False)
class Run:
    """A trained run, ready to be asked about images in memory.

    Its methods take one image ``(h, w, 3)``, a batch ``(n, h, w, 3)``, or a list of images of any sizes: RGB uint8.
    By default these are aligned crops, square, framed as the store's own; with ``align=True`` they are photos, in
    which the largest face is found, aligned and cut out first. Results have one entry an image, whatever the input was.
    """

    opened: OpenRun
    detector: str | None = None
    model: Path | None = None

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self.opened.folder

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the probabilities."""
        return tuple(self.opened.record.classes)

    @property
    def layers(self) -> int:
        """Number of layers with an attention; the last is the deepest."""
        return self.opened.model.backbone.n_layers

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks that a reader of the results must know."""
        return self.opened.notes

    def align(self, photos: Images) -> Faces:
        """Find, align and cut out the largest face of each photo, as the run's store did.

        Args:
            photos: One photo, a batch, or a list.

        Returns:
            Faces that the other methods take in place of images, so that photos are searched once.

        Raises:
            UserInputError: Arrays that are no images.
            ModelFileError: The detector's model is not on this machine.
        """
        images = _as_list(photos)
        preparer = PhotoPreparer(self.opened.preparation, detector=self.detector, model=self.model, faces="largest")
        with contextlib.closing(preparer):
            found = [preparer(image, None, None)[0] for image in images]
        return self._gathered(
            images,
            [one if isinstance(one, AlignedFace) else None for one in found],
            [Reason.OK.key if isinstance(one, AlignedFace) else one.reason.key for one in found],
        )

    def predict(self, images: Images | Faces, *, align: bool = False) -> Predictions:
        """Predict the expression of each image.

        Args:
            images: One image, a batch, a list, or what :meth:`align` gives.
            align: The images are photos.

        Returns:
            Probabilities ``(n, k)`` and the most probable class of each image.

        Raises:
            UserInputError: Arrays that are no images, or crops that are not square.
        """
        faces = self._faces(images, align)
        probability, label = np.zeros((len(faces), len(self.classes))), np.zeros(len(faces), np.int64)
        for row, prediction in self._predictions(faces):
            probability[row], label[row] = prediction.probability, prediction.predicted
        return Predictions(self.classes, probability, label, faces.found, faces.reasons)

    def attention(self, images: Images | Faces, layer: int | None = None, *, align: bool = False) -> Maps:
        """Show where the network looks: the mean of a layer's feature maps, its positive part.

        Args:
            images: One image, a batch, a list, or what :meth:`align` gives.
            layer: 1 to :attr:`layers`. None: the deepest.
            align: The images are photos.

        Returns:
            A map for each image: on the network's grid, on the aligned crop, and on the image itself.

        Raises:
            UserInputError: Arrays that are no images, crops that are not square, or no such layer.
        """
        chosen = self.opened.check_layer(layer)
        faces = self._faces(images, align)
        return self._maps(faces, (), lambda prediction: prediction.attention, layer=chosen)

    def cam(self, images: Images | Faces, label: str | Sequence[str] | None = None, *, align: bool = False) -> Maps:
        """Show what speaks for a class: its class activation map, its positive part.

        Args:
            images: One image, a batch, a list, or what :meth:`align` gives.
            label: The class, or one for each image. None: the predicted one.
            align: The images are photos.

        Returns:
            A map for each image: on the network's grid, on the aligned crop, and on the image itself.

        Raises:
            UserInputError: Arrays that are no images, crops that are not square, an unknown class, or a method that has
                no class map.
        """
        if not self.opened.model.has_cam:
            raise UserInputError(
                paragraph(f"The method {self.opened.record.config.method!r} has no class map.", fix="Use attention().")
            )
        faces = self._faces(images, align)
        names = self.predict(faces).expression if label is None else self._checked(label, len(faces))
        labels = tuple(name or "" for name in names)
        return self._maps(faces, labels, lambda prediction: prediction.cam)

    def _checked(self, label: str | Sequence[str], count: int) -> Sequence[str]:
        names = [label] * count if isinstance(label, str) else list(label)
        for name in names:
            if name not in self.classes:
                raise UserInputError(unknown_name("class", name, list(self.classes)))
        if len(names) != count:
            raise UserInputError(paragraph("Each image needs one label.", expected=f"{count} labels", got=len(names)))
        return names

    def _faces(self, images: Images | Faces, align: bool) -> Faces:
        if isinstance(images, Faces):
            return images
        return self.align(images) if align else self._crops(_as_list(images))

    def _crops(self, images: list[np.ndarray]) -> Faces:
        """Bring aligned crops of any size to the store's."""
        size = self.opened.preparation.image_size
        for number, image in enumerate(images):
            if image.shape[0] != image.shape[1]:
                raise UserInputError(
                    paragraph(
                        f"Image {number} is no aligned crop: it is not square.",
                        expected=f"crops framed as the store's, of {size} x {size} pixels or another size",
                        got=f"{image.shape[1]} x {image.shape[0]} pixels",
                        fix="Photos are aligned with align=True.",
                    )
                )
        return self._gathered(images, [_as_crop(image, size) for image in images], [Reason.OK.key] * len(images))

    def _gathered(
        self,
        images: list[np.ndarray],
        faces: Sequence[AlignedFace | tuple[np.ndarray, np.ndarray] | None],
        reasons: Sequence[str],
    ) -> Faces:
        size = self.opened.preparation.image_size
        crop, to_image = np.zeros((len(images), size, size, 3), np.uint8), np.zeros((len(images), 2, 3))
        for row, face in enumerate(faces):
            if face is not None:
                crop[row], to_image[row] = (face.image, face.to_source) if isinstance(face, AlignedFace) else face
        return Faces(crop, to_image, tuple((one.shape[0], one.shape[1]) for one in images), tuple(reasons))

    def _predictions(
        self, faces: Faces, labels: Sequence[str] = (), layer: int | None = None
    ) -> list[tuple[int, FacePrediction]]:
        """Predict the faces that are there; return their rows and predictions."""
        rows, step = np.flatnonzero(faces.found), self.opened.record.config.batch_size
        predictions: list[FacePrediction] = []
        for start in range(0, len(rows), step):
            some = rows[start : start + step]
            chosen = np.array([self.classes.index(labels[row]) for row in some], np.int64) if labels else None
            predictions += self.opened.predict_images(faces.crop[some], labels=chosen, layer=layer)
        return list(zip(rows.tolist(), predictions, strict=True))

    def _maps(
        self,
        faces: Faces,
        labels: tuple[str, ...],
        pick: Callable[[FacePrediction], np.ndarray | None],
        layer: int | None = None,
    ) -> Maps:
        picked = {row: pick(prediction) for row, prediction in self._predictions(faces, labels, layer)}
        grids = {row: values for row, values in picked.items() if values is not None}
        shape = next(iter(grids.values())).shape if grids else (1, 1)
        size, crop, centre = faces.crop.shape[1], self.opened.crop.crop_size, self.opened.placement().centre[0]
        grid, on_crop = (np.zeros((len(faces), *sides), np.float32) for sides in (shape, (size, size)))
        on_image = [np.zeros(sides, np.float32) for sides in faces.sizes]
        for row, values in grids.items():
            grid[row] = values
            scaled = values / max(float(values.max()), 1e-12)
            on_crop[row] = view.warp_map(scaled, view.window_to_photo(_IDENTITY, centre, crop), crop, (size, size))
            to_image = view.window_to_photo(faces.to_image[row], centre, crop)
            on_image[row] = view.warp_map(scaled, to_image, crop, faces.sizes[row])
        return Maps(grid, on_crop, tuple(on_image), labels, faces.found, faces.reasons)

    def __repr__(self) -> str:
        config, size = self.opened.record.config, self.opened.preparation.image_size
        return (
            f"Run {self.folder.name}: {config.method} on {config.backbone}, {len(self.classes)} classes, sees "
            f"{config.crop_size} of {size} pixels, on {self.opened.device}"
        )


def load_run(
    run: str | os.PathLike[str],
    *,
    layer: int | None = None,
    method: str | None = None,
    method_options: str = "",
    store: Store | str | os.PathLike[str] | None = None,
    detector: str | None = None,
    model: str | os.PathLike[str] | None = None,
    device: str = "auto",
) -> Run:
    """Load a run's best checkpoint, to be asked about images in memory.

    Args:
        run: The run's folder.
        layer: Whose attention is the usual one. None: the deepest.
        method: Read the CAM out as another method with the same training.
        method_options: That method's settings.
        store: Where the run's store is now, if it was moved.
        detector: Another landmark detector for photos. None: the store's.
        model: The detector's model file, if not found by itself.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Returns:
        The run, with ``classes``, ``predict``, ``attention``, ``cam`` and ``align``.

    Raises:
        RunError: There is no such run, or nobody knows any more how its photos were prepared.
        UserInputError: No such layer, method or device.

    Example:
        >>> import numpy as np
        >>> from aupipe.fer_demo.portrait import portrait_faces
        >>> run = aupipe.load_run("run", device="cpu")
        >>> photo = next(portrait_faces("happiness", 1, seed=5)).image
        >>> found = run.predict([photo, np.zeros((90, 120, 3), np.uint8)], align=True)
        >>> found.probability.shape, found.reasons
        ((2, 7), ('ok', 'no_face'))
        >>> maps = run.cam(photo, "happiness", align=True)
        >>> maps.on_crop.shape, maps.on_image[0].shape
        ((1, 96, 96), (192, 192))
    """
    folder = None if store is None else store.folder if isinstance(store, Store) else Path(store)
    opened = open_run(
        Path(run), store_folder=folder, layer=layer, method=method, method_options=method_options, device=device
    )
    return Run(opened, detector, None if model is None else Path(model))


def _as_list(images: Images) -> list[np.ndarray]:
    """Check the images, and list them one by one."""
    found: list[np.ndarray] = [images] if isinstance(images, np.ndarray) and images.ndim == 3 else list(images)
    for number, image in enumerate(found):
        if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            got = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
            raise UserInputError(
                paragraph(
                    f"Image {number} is no image.",
                    expected="an array (height, width, 3) of RGB uint8, a batch (n, height, width, 3), or a list",
                    got=got,
                )
            )
        if not image.size:
            raise UserInputError(paragraph(f"Image {number} has no pixels.", got=image.shape))
    return found


def _as_crop(image: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Resize a square crop to the store's size, and give the way from its pixels back to the given ones."""
    scale = len(image) / size
    offset = (scale - 1) / 2  # pixel centres
    back = np.array([[scale, 0.0, offset], [0.0, scale, offset]])
    if len(image) == size:
        return image, back
    how = cv2.INTER_AREA if scale > 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (size, size), interpolation=how), np.uint8), back
