"""Small releases of SA-Co/Gold, Panoptic Narrative Grounding and Ref-L4."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (6, 8)  # H, W of every image


def box_mask(top: int, left: int, bottom: int, right: int) -> np.ndarray:
    """bool [H, W], true in the rows and columns from the first up to before the last."""
    mask = np.zeros(SIZE, bool)
    mask[top:bottom, left:right] = True
    return mask


def rle(mask: np.ndarray) -> dict:
    """COCO's uncompressed run lengths, written out pixel by pixel."""
    counts, value = [0], False
    for pixel in mask.T.ravel().tolist():
        if pixel != value:
            counts.append(0)
            value = pixel
        counts[-1] += 1
    return {"size": list(mask.shape), "counts": counts}


def write_saco(folder: Path, annotators: dict[str, dict], pairs: dict[int, dict], subset="tiny"):
    """annotators: {"a": {pair: [mask or (mask, 1) for a crowd]}}; pairs: fields that differ."""
    folder.mkdir(parents=True, exist_ok=True)
    for letter, marked in annotators.items():
        images, annotations = [], []
        for key, fields in pairs.items():
            entry = {"id": key, "text_input": f"thing {key}", "file_name": f"{key % 10}.png"}
            entry |= {"height": SIZE[0], "width": SIZE[1]}
            entry |= {"is_instance_exhaustive": 1, "is_pixel_exhaustive": 1, **fields}
            images.append(entry)
        for key, masks in marked.items():
            for item in masks:
                mask, crowd = item if isinstance(item, tuple) else (item, 0)
                row = {"id": len(annotations), "image_id": key, "category_id": 1}
                annotations.append({**row, "segmentation": rle(mask), "iscrowd": crowd})
        name = f"gold_{subset}_merged_{letter}_release_test.json"
        (folder / name).write_text(json.dumps({"images": images, "annotations": annotations}))
    return folder


def results(found: dict[int, list]) -> list[dict]:
    """Predictions: {pair: [mask or (mask, score)]}."""
    rows = []
    for key, masks in found.items():
        for item in masks:
            mask, score = item if isinstance(item, tuple) else (item, 0.9)
            row = {"image_id": key, "category_id": 1, "segmentation": rle(mask)}
            rows.append({**row, "score": score})
    return rows


# Segments of the image: id, category (1 a thing, 2 stuff), rows and columns.
SEGMENTS = {7: (1, (0, 0, 3, 4)), 300: (1, (3, 0, 6, 4)), 70000: (2, (0, 4, 6, 8))}


def write_png(root: Path, narratives: list[dict], image_id: int = 139) -> Path:
    """annotations/ and val2017/ of one image with SEGMENTS."""
    place = root / "annotations"
    (place / "panoptic_segmentation/val2017").mkdir(parents=True, exist_ok=True)
    (root / "val2017").mkdir(exist_ok=True)
    ids = np.zeros(SIZE, np.int64)
    for key, (_, area) in SEGMENTS.items():
        ids[box_mask(*area)] = key
    colours = np.stack([ids % 256, ids // 256 % 256, ids // 65536], -1).astype(np.uint8)
    Image.fromarray(colours).save(place / f"panoptic_segmentation/val2017/{image_id:012d}.png")
    noise = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    Image.fromarray(noise).save(root / "val2017" / f"{image_id:012d}.jpg")
    infos = [{"id": key, "category_id": category} for key, (category, _) in SEGMENTS.items()]
    panoptic = {
        "images": [
            {"id": image_id, "file_name": f"{image_id:012d}.jpg", "height": SIZE[0],
             "width": SIZE[1]},
        ],
        "annotations": [{"image_id": image_id, "segments_info": infos}],
        "categories": [{"id": 1, "isthing": 1}, {"id": 2, "isthing": 0}],
    }  # fmt: skip
    (place / "panoptic_val2017.json").write_text(json.dumps(panoptic))
    (place / "png_coco_val2017.json").write_text(json.dumps(narratives))
    return root


def narrative(*parts, caption: str | None = None, image_id: str = "139") -> dict:
    """parts: (utterance, ids) or (utterance, ids, noun)."""
    segments = [
        {"utterance": text, "segment_ids": ids, "noun": bool(noun[0] if noun else ids)}
        for text, ids, *noun in parts
    ]
    whole = " ".join(text for text, *_ in parts) if caption is None else caption
    return {"image_id": image_id, "annotator_id": 3, "caption": whole, "segments": segments}
