"""Check a built wheel: ``python tests/check_wheel.py FOLDER``. Fails if a file that users need is missing."""

import sys
import zipfile
from pathlib import Path

NEEDED = (
    "avatar_stream/weights/tick2.onnx",
    "avatar_stream/weights/tick1.onnx",
    "avatar_stream/weights/networks.weights",
    "avatar_stream/weights/reference.onnx",
    "avatar_stream/weights/MODEL_CARD.md",
    "avatar_stream/samples/driver.mp4",
    "avatar_stream/face/face_mesh.npz",
    "avatar_stream/face/face_model.npz",
    "avatar_stream/samples/speech.ogg",
    "avatar_stream/voice/visemes.npz",
    "avatar_stream/rigs/face_code.bin",
    "avatar_stream/face/ICT-FACEKIT-LICENSE",
    "avatar_stream/client_demo/index.html",
    "avatar_stream/client_demo/main.js",
    "avatar_stream/client_demo/view.html",
    "avatar_stream/client_demo/face/mesh.html",
    "avatar_stream/client_demo/face/vendor/face_mesh_solution_simd_wasm_bin.wasm",
    "avatar_stream/client_demo/face/vendor/LICENSE",
    "avatar_stream/client_demo/status.html",
    "avatar_stream/identity/likeness.onnx",
    "avatar_stream/identity/glasses.npz",
    "avatar_stream/cli/main.py",
)

(wheel,) = Path(sys.argv[1]).glob("*.whl")
names = zipfile.ZipFile(wheel).namelist()
missing = [name for name in NEEDED if name not in names]
extra = [name for name in names if name.startswith(("engines", "tests"))]
if missing or extra or wheel.stat().st_size > 32e6:
    sys.exit(f"{wheel.name}: missing {missing}, does not belong {extra[:3]}, {wheel.stat().st_size / 1e6:.0f} MB")
print(f"{wheel.name}: {len(names)} files, {wheel.stat().st_size / 1e6:.1f} MB")
