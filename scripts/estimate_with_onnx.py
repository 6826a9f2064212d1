"""The age of one aligned crop by a graph, without this repository: python scripts/estimate_with_onnx.py GRAPH CROP."""

import sys

import numpy as np
import onnxruntime  # ORT_DISABLE_TELEMETRY=1 in the environment keeps it off the network
from PIL import Image

session = onnxruntime.InferenceSession(sys.argv[1])  # weights/AgeRegBaseline/model.onnx
said = session.get_modelmeta().custom_metadata_map  # crop_fraction, crop_rise, input_size, alignment, ages, decode …
crop = np.asarray(Image.open(sys.argv[2]).convert("RGB"), np.float32) / 255  # [S, S, 3], aligned, S = 128
side, size = len(crop), int(said["input_size"])
margin, rise = round(side * (1 - float(said["crop_fraction"])) / 2), round(side * float(said["crop_rise"]))
crop = np.pad(crop, ((side, side), (side, side), (0, 0)), "edge")  # the view of -large reaches beyond the crop
crop = crop[side + margin - rise : 2 * side - margin - rise, side + margin : 2 * side - margin]
view = [Image.fromarray(crop[..., i]).resize((size, size), Image.Resampling.BILINEAR) for i in range(3)]
age, log_probs, embedding = session.run(None, {"images": np.stack(view)[None]})  # images [1, 3, size, size] RGB, 0..1
print(f"{age[0]:.4f}")
