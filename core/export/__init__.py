"""Results as files that other tools open: COCO, Label Studio, Pascal VOC, supervision."""
