"""A live portrait avatar server: a webcam moves somebody else's portrait, over WebRTC."""

import os

# The face model's fit solves many small systems: threads of a linear algebra library cost far more than they bring,
# and where cores are busy they wait for each other for tenths of a second. To be said before NumPy is loaded.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
