"""Results as files that other tools open: COCO, Label Studio, Pascal VOC, supervision."""

FORMATS = ("coco", "label-studio", "voc", "supervision")
