"""Draws a head with moderngl, on Mesa's software EGL or on a GPU: textures, and faces over photographs.

Rows and textures both begin at the top, so nothing is flipped.
"""

from dataclasses import dataclass
from typing import Any

import moderngl
import numpy as np
import numpy.typing as npt

from avatar_stream.face.mesh import Floats, Ints
from engines.made.head import HeadModel

Image = npt.NDArray[np.uint8]
SKIN_TEXTURE_SIZE = 768
EYE_TEXTURE_SHAPE = (256, 512)  # rows, columns: the right eye, then the left one
FULLY_LIT_GAP = 0.09  # eye distances between the lips from which the front of the mouth is fully lit
SAMPLES_PER_PIXEL = 2  # along each axis

_LAYOUT_SHADERS = (
    """#version 330
in vec2 uv; in vec4 value; out vec4 v;
void main(){ v = value; gl_Position = vec4(uv * 2. - 1., 0., 1.); }""",
    """#version 330
in vec4 v; out vec4 o;
void main(){ o = v; }""",
)
_DEPTH_SHADERS = (
    """#version 330
in vec3 p; uniform vec4 view; out float z;
void main(){ z = p.z; gl_Position = vec4((p.xy - view.xy) / view.zw * 2. - 1., p.z / 4000., 1.); }""",
    """#version 330
in float z; out float o;
void main(){ o = z; }""",
)
_FACE_SHADERS = (
    """#version 330
in vec3 p; in vec3 n; in float ratio; in float light_here; in float shut; in vec2 uv; in float kind; in float part;
uniform vec4 view;
out vec3 P; out vec3 N; out vec2 U; flat out float K; out float ratio_; out float here; out float shut_; out float T;
void main(){
  P = p; N = n; U = uv; K = kind; ratio_ = ratio; here = light_here; shut_ = shut; T = part;
  gl_Position = vec4((p.xy - view.xy) / view.zw * 2. - 1., p.z / 4000., 1.);
}""",
    """#version 330
in vec3 P; in vec3 N; in vec2 U; flat in float K; in float ratio_; in float here; in float shut_; in float T;
out vec4 o;
uniform sampler2D skin; uniform sampler2D lidded; uniform sampler2D eyes; uniform sampler2D lash;
uniform sampler2D depth; uniform vec4 view; uniform float scale; uniform float lip_depth; uniform int lashes;
uniform vec3 tooth; uniform vec3 gum; uniform vec3 tongue_tone; uniform vec3 deep; uniform vec3 lamp;
uniform vec3 white; uniform float gloss; uniform float fall; uniform float aperture; uniform float hairs;
float hash(vec2 q){ return fract(sin(dot(q, vec2(12.9898, 78.233))) * 43758.5453); }
float open_sky(){
  // Of a dozen places around, how many do not stand in front: ambient occlusion in screen space.
  float covered = 0., turn = hash(gl_FragCoord.xy) * 6.28;
  for (int i = 0; i < 12; i++) {
    float t = turn + float(i) * 2.4, r = sqrt((float(i) + .5) / 12.) * .22 * scale;
    vec2 q = (P.xy + vec2(cos(t), sin(t)) * r - view.xy) / view.zw;
    float dz = (P.z - texture(depth, q).r) / scale - .12 * r / scale;
    covered += step(.003, dz) * clamp(1.4 - dz / .25, 0., 1.);
  }
  return 1. - .8 * covered / 12.;
}
void main(){
  int k = int(K + .5);
  vec3 n = normalize(N), c = vec3(0.);
  if (lashes == 1) {
    // Open eyes have their own lashes in the photograph already.
    float a = texture(lash, U).r * hairs * mix(.3, 1., shut_);
    o = vec4(vec3(.09) * a, a);
    return;
  }
  if (k == 0) {
    vec3 seen = mix(texture(skin, U).rgb, texture(lidded, U).rgb, shut_);
    c = pow(seen, vec3(2.2)) * ratio_;
  } else if (k == 4) {
    float ao = open_sky();
    c = pow(texture(eyes, U).rgb, vec3(2.2)) * mix(.6, 1., ao);
  } else {
    float ao = open_sky(), far = max((P.z - lip_depth) / scale - .08, 0.), dark = exp(-far * fall);
    vec3 h = normalize(lamp + vec3(0., 0., -1.));
    float shine = max(dot(n, h), 0.), facing = clamp(-n.z, 0., 1.);
    float glint = gloss * dark * pow(shine, k == 2 ? 40. : 90.);
    if (k == 1) c = deep * ao * dark;
    else if (k == 2) {
      vec3 rough = tongue_tone * (.9 + .1 * hash(floor(P.xy * 1.5)));
      c = mix(gum, rough, T) * mix(.35, 1., facing) * ao * dark + white * .10 * glint;
    } else {
      float between = 1. - .4 * smoothstep(.82, 1., T);
      c = tooth * mix(.7, 1., facing) * mix(ao, 1., .6) * between * dark + white * .22 * glint;
    }
    c *= mix(1., here, .5) * mix(.35, 1., aperture);
  }
  o = vec4(pow(max(c, 0.), vec3(1. / 2.2)), 1.);
}""",
)


@dataclass(frozen=True)
class Paint:
    """Textures of one person, and colours inside the mouth (linear RGB)."""

    skin: Image  # (768, 768, 3)
    lidded: Image  # the same with skin over the photograph's eyes, and creased lips
    eyes: Image  # (256, 512, 3)
    tooth: Floats
    gum: Floats
    tongue_tone: Floats
    deep: Floats  # the throat
    white: Floats  # highlights
    lamp: Floats  # (3,) towards the light
    gloss: float
    lashes: float  # density and darkness, 0 to 1
    fall: float  # exponential decay of light behind the lips, per eye distance


class Canvas:
    """One drawing context for one head model; not thread-safe."""

    def __init__(self, head: HeadModel, lash: Image) -> None:
        self.head = head
        create: Any = moderngl.create_context  # its stubs know no backend by name
        self.context: Any = create(standalone=True, backend="egl")
        ctx = self.context
        self._face = ctx.program(*_FACE_SHADERS)
        self._depth = ctx.program(*_DEPTH_SHADERS)
        self._layout = ctx.program(*_LAYOUT_SHADERS)
        vertex = head.corner_vertex
        self._moving = ctx.buffer(reserve=len(vertex) * 36, dynamic=True)
        fixed = np.column_stack([head.corner_uv, head.corner_kind, head.tongue[vertex] + head.gaps[vertex]]).astype(
            "f4"
        )
        self._fixed = ctx.buffer(fixed.tobytes())
        self._value = ctx.buffer(reserve=len(vertex) * 16, dynamic=True)
        skin = head.triangles["skin"]
        skin = skin[head.face[vertex[skin]].all(1)]
        inside = [head.triangles[name] for name in ("socket", "gum", "tooth", "eye")]
        self._skin, self._eyes = self._layout_array(skin), self._layout_array(head.triangles["eye"])
        solid = np.concatenate([skin, *inside])
        self._solid = self._face_array(solid)
        self._lashes = self._face_array(head.triangles["lash"])
        self._depth_array = ctx.vertex_array(self._depth, [(self._moving, "3f 24x", "p")], self._index(solid))
        self._map = ctx.texture((SKIN_TEXTURE_SIZE, SKIN_TEXTURE_SIZE), 4, dtype="f4")
        self._map_frame = ctx.framebuffer([self._map])
        self._eye_map = ctx.texture(EYE_TEXTURE_SHAPE[::-1], 4, dtype="f4")
        self._eye_frame = ctx.framebuffer([self._eye_map])
        self._frames: dict[tuple[int, int, int], tuple[moderngl.Texture, moderngl.Framebuffer]] = {}
        self._textures: dict[str, moderngl.Texture] = {}
        self._current_paint: Paint | None = None
        self._set_texture("lash", lash)

    def close(self) -> None:
        """Free the context."""
        self.context.release()

    def skin_map(self, values: Floats) -> Floats:
        """Interpolate four values per vertex, ``(n, 4)``, over the skin texture: ``(768, 768, 4)``, NaN outside."""
        return self._render_map(self._skin, self._map_frame, (SKIN_TEXTURE_SIZE, SKIN_TEXTURE_SIZE), values)

    def eye_map(self, values: Floats) -> Floats:
        """The same over the eye texture, ``(256, 512, 4)``."""
        return self._render_map(self._eyes, self._eye_frame, EYE_TEXTURE_SHAPE, values)

    def depth(self, points: Floats, size: tuple[int, int]) -> Floats:
        """Depth of the foremost surface, ``(height, width)``; ``points (n, 3)`` in pixels; 1e4 where nothing is."""
        self._write_vertices(points, np.zeros_like(points), np.zeros((len(points), 3), np.float32))
        texture = self._render_depth((0.0, 0.0, float(size[0]), float(size[1])), size)
        return np.frombuffer(texture.read(), np.float32).reshape(size[1], size[0])

    def use(self, paint: Paint) -> None:
        """Draw this person from now on: load textures and colours."""
        if paint is self._current_paint:
            return
        self._current_paint = paint
        for name in ("skin", "lidded", "eyes"):
            self._set_texture(name, getattr(paint, name))
        for name in ("tooth", "gum", "tongue_tone", "deep", "white", "lamp"):
            self._set(name, tuple(float(v) for v in getattr(paint, name)))
        self._set("gloss", paint.gloss)
        self._set("fall", paint.fall)
        self._set("hairs", paint.lashes)

    def draw(
        self,
        points: Floats,
        normals: Floats,
        lights: Floats,
        box: tuple[int, int, int, int],
        scale: float,
        lip: float,
        gap: float,
    ) -> npt.NDArray[np.float32]:
        """RGBA ``(height, width, 4)`` of ``box`` (left, top, right, bottom).

        ``points`` and ``normals (n, 3)`` in pixels; ``lights (n, 3)`` per vertex: light relative to the photograph's,
        the light itself, closure of the lid (0 to 1); ``scale`` in pixels per eye distance; ``lip`` the depth of the
        lips; ``gap`` between the lips in eye distances (a narrow gap lets in little light).
        """
        left, top, right, bottom = box
        width, height = right - left, bottom - top
        view = (float(left), float(top), float(width), float(height))
        self._write_vertices(points, normals, lights)
        depth = self._render_depth(view, (width, height))
        texture, frame = self._frame((SAMPLES_PER_PIXEL * width, SAMPLES_PER_PIXEL * height, 4))
        frame.use()
        frame.clear()
        for unit, name in enumerate(("skin", "lidded", "eyes", "lash")):
            self._textures[name].use(unit)
            self._set(name, unit)
        depth.use(4)
        self._set("depth", 4)
        self._set("view", view)
        self._set("scale", scale)
        self._set("lip_depth", lip)
        self._set("aperture", min(max(gap / FULLY_LIT_GAP, 0.0), 1.0))
        ctx = self.context
        ctx.enable(moderngl.DEPTH_TEST)
        self._set("lashes", 0)
        self._solid.render()
        ctx.enable(moderngl.BLEND)
        ctx.blend_func = moderngl.ONE, moderngl.ONE_MINUS_SRC_ALPHA
        self._set("lashes", 1)
        # Strands are blended without discard: a shader that may discard is run for every hidden pixel, too.
        frame.depth_mask = False
        self._lashes.render()
        frame.depth_mask = True
        ctx.disable(moderngl.BLEND)
        found = np.frombuffer(texture.read(), np.uint8).reshape(
            SAMPLES_PER_PIXEL * height, SAMPLES_PER_PIXEL * width, 4
        )
        return np.asarray(found, np.float32)

    def _write_vertices(self, points: Floats, normals: Floats, lights: Floats) -> None:
        vertex = self.head.corner_vertex
        rows = np.hstack([points[vertex], normals[vertex], lights[vertex]])
        self._moving.write(np.ascontiguousarray(rows, "f4").tobytes())

    def _render_depth(self, view: tuple[float, float, float, float], size: tuple[int, int]) -> moderngl.Texture:
        texture, frame = self._frame((*size, 1))
        frame.use()
        frame.clear(1e4, 1e4, 1e4, 1e4)
        self._depth["view"] = view
        self.context.enable(moderngl.DEPTH_TEST)
        self._depth_array.render()
        return texture

    def _render_map(
        self, array: moderngl.VertexArray, frame: moderngl.Framebuffer, size: tuple[int, int], values: Floats
    ) -> Floats:
        self._value.write(np.ascontiguousarray(values[self.head.corner_vertex], "f4").tobytes())
        frame.use()
        frame.clear(np.nan, np.nan, np.nan, np.nan)
        self.context.disable(moderngl.DEPTH_TEST)
        array.render()
        return np.frombuffer(frame.read(components=4, dtype="f4"), np.float32).reshape(*size, 4).copy()

    def _frame(self, key: tuple[int, int, int]) -> tuple[moderngl.Texture, moderngl.Framebuffer]:
        if key not in self._frames:
            if len(self._frames) > 24:
                for texture, frame in self._frames.values():
                    frame.release()
                    texture.release()
                self._frames.clear()
            width, height, channels = key
            texture = self.context.texture((width, height), channels, dtype="f4" if channels == 1 else "f1")
            frame = self.context.framebuffer([texture], self.context.depth_renderbuffer((width, height)))
            self._frames[key] = texture, frame
        return self._frames[key]

    def _set_texture(self, name: str, picture: Image) -> None:
        if name in self._textures:
            self._textures[name].release()
        channels = 3 if picture.ndim == 3 else 1
        texture = self.context.texture(picture.shape[1::-1], channels, np.ascontiguousarray(picture).tobytes())
        texture.build_mipmaps()
        self._textures[name] = texture

    def _set(self, name: str, value: object) -> None:
        if name in self._face:  # the compiler removes unused uniforms
            self._face[name] = value

    def _index(self, triangles: Ints) -> moderngl.Buffer:
        return self.context.buffer(np.ascontiguousarray(triangles, np.int32).tobytes())

    def _face_array(self, triangles: Ints) -> moderngl.VertexArray:
        moving = (self._moving, "3f 3f 1f 1f 1f", "p", "n", "ratio", "light_here", "shut")
        fixed = (self._fixed, "2f 1f 1f", "uv", "kind", "part")
        return self.context.vertex_array(self._face, [moving, fixed], self._index(triangles))

    def _layout_array(self, triangles: Ints) -> moderngl.VertexArray:
        content = [(self._value, "4f", "value"), (self._fixed, "2f 8x", "uv")]
        return self.context.vertex_array(self._layout, content, self._index(triangles))
