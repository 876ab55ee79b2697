#!/usr/bin/python3
"""GStreamer's webrtcbin, run with the system's Python: ``webrtcbin.py publish|view URL CODEC [FOLDER]``.

Publishes the pictures of a folder in a loop, or watches and counts decoded pictures, until its input is closed.
"""

import sys
import threading
import urllib.error
import urllib.parse
import urllib.request

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstWebRTC", "1.0")
gi.require_version("GstSdp", "1.0")
from gi.repository import GLib, Gst, GstSdp, GstWebRTC  # noqa: E402

ENCODERS = {
    "VP8": "vp8enc deadline=1 cpu-used=8 target-bitrate=1000000 ! rtpvp8pay picture-id-mode=15-bit",
    "H264": "openh264enc bitrate=1000000 gop-size=25 ! h264parse ! rtph264pay config-interval=-1",
}
DECODERS = {"VP8": "rtpvp8depay ! vp8dec", "H264": "rtph264depay ! h264parse ! openh264dec"}
OPUS_CAPS = "application/x-rtp,media=audio,encoding-name=OPUS,payload=97,clock-rate=48000,encoding-params=(string)2"


class Client:
    """One webrtcbin and its HTTP resource."""

    def __init__(self, role: str, url: str, codec: str, folder: str = "") -> None:
        self.role, self.url, self.codec = role, url, codec
        self.location = ""
        self.loop = GLib.MainLoop()
        self.decoded = 0
        self.offered = False
        video = f"application/x-rtp,media=video,encoding-name={codec},payload=96,clock-rate=90000"
        if role == "publish":
            self.pipe = Gst.parse_launch(
                f'multifilesrc location="{folder}/%04d.jpg" loop=true caps="image/jpeg,framerate=25/1" ! jpegdec '
                f"! videoconvert ! video/x-raw,format=I420 ! clocksync ! queue ! {ENCODERS[codec]} ! {video} "
                "! webrtcbin name=peer bundle-policy=max-bundle "
                f"audiotestsrc is-live=true wave=silence ! audioconvert ! opusenc ! rtpopuspay ! {OPUS_CAPS} ! peer."
            )
        else:
            self.pipe = Gst.Pipeline.new()
            self.pipe.add(Gst.ElementFactory.make("webrtcbin", "peer"))
            Gst.util_set_object_arg(self.pipe.get_by_name("peer"), "bundle-policy", "max-bundle")
        self.peer = self.pipe.get_by_name("peer")
        if role == "view":
            direction = GstWebRTC.WebRTCRTPTransceiverDirection.RECVONLY
            self.peer.emit("add-transceiver", direction, Gst.caps_from_string(video))
            self.peer.connect("pad-added", self.on_pad)
        else:
            index = 0
            while (transceiver := self.peer.emit("get-transceiver", index)) is not None:
                transceiver.set_property("direction", GstWebRTC.WebRTCRTPTransceiverDirection.SENDONLY)
                index += 1
        self.peer.connect("on-negotiation-needed", self.on_negotiation)
        self.peer.connect("notify::ice-gathering-state", lambda *given: GLib.idle_add(self.offer))
        self.peer.connect("notify::connection-state", self.on_state)
        bus = self.pipe.get_bus()
        bus.add_signal_watch()
        bus.connect("message::error", lambda bus, message: self.fail(message.parse_error()))
        threading.Thread(target=self.wait, daemon=True).start()
        self.pipe.set_state(Gst.State.PLAYING)

    def wait(self) -> None:
        """Quit when the input is closed."""
        sys.stdin.read()
        GLib.idle_add(self.loop.quit)

    def fail(self, why: object) -> None:
        """Print why and quit with an error."""
        print("failed:", why, flush=True)
        self.failed = True
        self.loop.quit()

    failed = False

    def on_negotiation(self, peer: object) -> None:
        """Create the offer, once."""
        if not self.offered:
            self.offered = True
            self.peer.emit("create-offer", None, Gst.Promise.new_with_change_func(self.on_offer))

    def on_offer(self, promise: Gst.Promise) -> None:
        """Set the offer; gathering starts, and :meth:`offer` sends it afterwards."""
        self.reply = promise.get_reply()  # owns the offer
        offer = self.reply.get_value("offer")
        self.peer.emit("set-local-description", offer, Gst.Promise.new())

    def offer(self) -> bool:
        """POST the offer once it contains all candidates."""
        gathered = self.peer.get_property("ice-gathering-state") == GstWebRTC.WebRTCICEGatheringState.COMPLETE
        if not gathered or self.location:
            return False
        text = self.peer.get_property("local-description").sdp.as_text()
        request = urllib.request.Request(self.url, text.encode(), {"Content-Type": "application/sdp"}, method="POST")
        try:
            with urllib.request.urlopen(request) as response:
                self.location = urllib.parse.urljoin(self.url, response.headers["Location"])
                answer = response.read()
        except urllib.error.HTTPError as error:
            self.fail(f"{error} {error.read().decode()} for {text}")
            return False
        _, message = GstSdp.SDPMessage.new()
        GstSdp.sdp_message_parse_buffer(answer, message)
        described = GstWebRTC.WebRTCSessionDescription.new(GstWebRTC.WebRTCSDPType.ANSWER, message)
        self.peer.emit("set-remote-description", described, Gst.Promise.new())
        return False

    def on_state(self, *given: object) -> None:
        """Print the state of the connection."""
        print(self.peer.get_property("connection-state").value_nick, flush=True)

    def on_pad(self, peer: object, pad: Gst.Pad) -> None:
        """Decode a received stream and count its pictures."""
        if pad.direction != Gst.PadDirection.SRC:
            return
        text = f"queue ! {DECODERS[self.codec]} ! fakesink name=sink sync=false signal-handoffs=true"
        decode = Gst.parse_bin_from_description(text, True)
        decode.get_by_name("sink").connect("handoff", self.on_picture)
        self.pipe.add(decode)
        decode.sync_state_with_parent()
        pad.link(decode.get_static_pad("sink"))

    def on_picture(self, sink: Gst.Element, buffer: Gst.Buffer, pad: Gst.Pad) -> None:
        """Count a picture and print its size."""
        self.decoded += 1
        shape = pad.get_current_caps().get_structure(0)
        print("picture", self.decoded, shape.get_value("width"), shape.get_value("height"), flush=True)

    def run(self) -> None:
        """Run until the input is closed, then DELETE the session."""
        self.loop.run()
        if self.location:
            urllib.request.urlopen(urllib.request.Request(self.location, method="DELETE")).close()
        self.pipe.set_state(Gst.State.NULL)


Gst.init(None)
client = Client(*sys.argv[1:])
client.run()
sys.exit(client.failed)
