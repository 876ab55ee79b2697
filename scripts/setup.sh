#!/bin/sh
# Installs what pip cannot: system libraries, a virtual environment, and for the tests Chromium, coturn and other
# clients (Firefox ESR, GStreamer, npm).
#   setup.sh libraries | venv FOLDER | chromium | turn | clients
# As root on Debian or Ubuntu it installs what is missing; otherwise it prints the command that does.
set -eu

need() { # packages...
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "installing $*"
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
    else
        echo "Missing system packages. Run this, then make again:" >&2
        echo "    sudo apt-get install -y $*" >&2
        exit 1
    fi
}

has_library() { # file name
    ldconfig -p 2>/dev/null | grep -q "$1" || /sbin/ldconfig -p 2>/dev/null | grep -q "$1"
}

case "$1" in
libraries)
    # OpenCV and MediaPipe load these libraries, which their wheels do not contain.
    missing=""
    has_library libGL.so.1 || missing="$missing libgl1"
    has_library libglib-2.0.so.0 || missing="$missing libglib2.0-0"
    # shellcheck disable=SC2086
    [ -z "$missing" ] || need $missing
    ;;
venv)
    python="${PYTHON:-python3}"
    "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' || {
        echo "$python is $("$python" -V): Python 3.11 or 3.12 is needed (PYTHON=python3.11 make demo)" >&2
        exit 1
    }
    [ -x "$2/bin/pip" ] || {
        "$python" -c 'import ensurepip' 2>/dev/null || need python3-venv
        "$python" -m venv "$2"
    }
    ;;
chromium)
    missing=""
    command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null ||
        missing="$missing chromium"
    has_library libatomic.so.1 || missing="$missing libatomic1" # Playwright's driver wants it
    # shellcheck disable=SC2086
    [ -z "$missing" ] || need $missing
    ;;
turn)
    command -v turnserver >/dev/null || need coturn
    ;;
clients)
    missing=""
    command -v firefox-esr >/dev/null || command -v firefox >/dev/null || missing="$missing firefox-esr"
    command -v Xvfb >/dev/null || missing="$missing xvfb libgl1-mesa-dri libegl1"
    command -v npm >/dev/null || missing="$missing nodejs npm"
    # GStreamer's bindings are for the system's Python, not for the Python of the tests.
    gstreamer="python3-gi gir1.2-gst-plugins-bad-1.0 gstreamer1.0-nice"
    for plugins in base good bad; do gstreamer="$gstreamer gstreamer1.0-plugins-$plugins"; done
    /usr/bin/python3 2>/dev/null <<'END' || missing="$missing $gstreamer"
import gi
for name in ("Gst", "GstWebRTC", "GstSdp"):
    gi.require_version(name, "1.0")
from gi.repository import Gst
Gst.init(None)
needed = ("webrtcbin", "nicesrc", "dtlsdec", "vp8enc", "openh264enc", "h264parse", "rtph264pay", "jpegdec", "opusenc", "srtpenc")
raise SystemExit(not all(map(Gst.ElementFactory.find, needed)))
END
    # shellcheck disable=SC2086
    [ -z "$missing" ] || need $missing
    ;;
*)
    echo "setup.sh libraries | venv FOLDER | chromium | turn | clients" >&2
    exit 2
    ;;
esac
