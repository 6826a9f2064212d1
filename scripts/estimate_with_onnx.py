"""The age of one aligned crop by a graph, without this repository: estimate_with_onnx.py GRAPH CROP."""

import sys

import numpy as np
import onnxruntime  # ORT_DISABLE_TELEMETRY=1 in the environment keeps it off the network
from PIL import Image

session = onnxruntime.InferenceSession(sys.argv[1])  # weights/AgeRegBaseline/model.onnx
said = session.get_modelmeta().custom_metadata_map  # crop_fraction, alignment, ages, decode …
crop = np.asarray(Image.open(sys.argv[2]).convert("RGB"), np.float32) / 255  # [S, S, 3], aligned
side, size = len(crop), int(said["input_size"])
margin = round(side * (1 - float(said["crop_fraction"])) / 2)
top = side + margin - round(side * float(said["crop_rise"]))
crop = np.pad(crop, ((side, side), (side, side), (0, 0)), "edge")  # -large looks beyond the crop
crop = crop[top : top + side - 2 * margin, side + margin : 2 * side - margin]
layers = [Image.fromarray(layer).resize((size, size), 2) for layer in crop.transpose(2, 0, 1)]
age, log_probs, embedding = session.run(None, {"images": np.stack(layers)[None]})  # RGB, 0..1
print(f"{age[0]:.4f}")
