"""Train one stage: ``python -m engines.train STAGE RUN --packs runs/packs``.

Stages in order: motion, identity, joint, distil, slide (see ``engines.stages``). A stage starts from the checkpoint
``--init``, or resumes from ``RUN/last.pt`` if that exists, so it can be stopped at any time. It writes ``log.csv``,
``curve.png``, ``sheet.png`` and checkpoints.
"""

import argparse
import contextlib
import copy
import csv
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from avatar_stream.errors import AvatarError, BadInput
from engines.checkpoint import load_checkpoint, load_model, save_checkpoint
from engines.data.batches import Mix, Pool, augment, count_people
from engines.losses import Critic, Recognition
from engines.measure import contact_sheet, dev_cases, gains_over_warp, recognition_figures
from engines.networks.config import TIERS
from engines.networks.model import Model
from engines.report import draw_curve
from engines.stages import FRAMES_PER_WINDOW, STAGES, Helpers

STAGES_WITH_CRITIC = ("distil", "slide")  # the critic is passed from one to the next
CRITIC_RAMP_STEPS = 200  # over which the critic's weight rises to its full value


def parse_arguments(given: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=list(STAGES))
    parser.add_argument("run", type=Path)
    parser.add_argument("--packs", type=Path, required=True)
    parser.add_argument("--tier", choices=list(TIERS), default="live-256")
    parser.add_argument("--init", type=Path, help="checkpoint to start from, of the same tier")
    parser.add_argument("--teacher", type=Path, help="checkpoint of the teacher, for distil")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=5e-4)
    parser.add_argument("--minutes", type=float, default=1e9)
    parser.add_argument("--steps", type=int, default=1 << 60, help="stop at this step")
    parser.add_argument(
        "--decay", action="store_true", help="let the learning rate fall to zero over --minutes or --steps"
    )
    parser.add_argument("--self-rolled", type=float, help="share of steps that start from the model's own guess")
    parser.add_argument("--adversarial", type=float, default=0.02, help="weight of the critic in distil and slide")
    parser.add_argument("--frames", type=int, help="frames per window, if the stage's default is too slow")
    parser.add_argument("--made", type=float, default=0.4, help="share of made targets")
    parser.add_argument("--stills", type=float, default=0.15, help="share of stills; the rest are clips")
    parser.add_argument("--leave-out", metavar="K/N", help="people to leave out, for engines.live --fold K/N")
    parser.add_argument("--pool", type=int, default=3000)
    parser.add_argument("--faces", type=Path, help="packs of engines.made to mix in")
    parser.add_argument("--faces-share", type=float, default=0.25, help="share of the windows from --faces")
    parser.add_argument("--fresh", type=int, default=4, help="new windows per step")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--check-every", type=int, default=500, help="steps between evaluations")
    parser.add_argument("--dev-pairs", type=int, default=10, help="dev pairs per clip and kind; 0: no dev figures")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args(given)


def helpers_for(arguments: argparse.Namespace, model: Model, device: torch.device) -> Helpers:
    """The networks and weights that the stage needs; raises :class:`BadInput` if an option is missing or wrong."""
    # A single slot mostly starts from pure noise; in a window the older slot always continues from a guess.
    self_rolled = (
        {"motion": 0.3}.get(arguments.stage, 0.95) if arguments.self_rolled is None else arguments.self_rolled
    )
    helpers = Helpers(self_rolled=self_rolled, adversarial=arguments.adversarial)
    if arguments.stage == "identity":
        if arguments.faces:
            raise BadInput("identity trains on real people only: leave --faces out")
        helpers.recognition = Recognition(count_people(arguments.packs), model.tier.identity).to(device)
    if arguments.stage == "distil":
        if arguments.teacher is None:
            raise BadInput("distil needs --teacher, the checkpoint of a trained teacher")
        helpers.teacher = load_model(arguments.teacher).to(device).requires_grad_(False)
    if arguments.stage in STAGES_WITH_CRITIC and arguments.adversarial:
        helpers.critic = Critic(model.tier.raster).to(device)
        if arguments.init and arguments.init.suffix == ".pt":
            before = load_checkpoint(arguments.init, model.tier.name)
            if before.get("stage") in STAGES_WITH_CRITIC and before["beside"]:
                helpers.critic.load_state_dict(before["beside"][0])
    return helpers


def autocast(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Autocast to bf16 if the device computes faster in it than in fp32."""
    fast = device.type == "cuda" or torch.cpu._is_avx512_bf16_supported()
    return torch.autocast(device.type, torch.bfloat16, enabled=fast)


def train(arguments: argparse.Namespace) -> None:
    """Train until stopped, or for ``--minutes`` or ``--steps``."""
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    arguments.run.mkdir(parents=True, exist_ok=True)
    last = arguments.run / "last.pt"
    model = Model(TIERS[arguments.tier]).to(device)
    if arguments.init and not last.exists():
        model.load_state_dict(load_model(arguments.init, arguments.tier).state_dict())
    average = copy.deepcopy(model).requires_grad_(False)
    helpers = helpers_for(arguments, model, device)
    beside = [m for m in (helpers.recognition, helpers.critic) if m is not None]
    of_identity = arguments.stage == "identity"
    trained = [p for name, p in model.named_parameters() if name.startswith("identity.") == of_identity]
    trained += [p for m in beside for p in m.parameters()]
    optimizer = torch.optim.AdamW(trained, arguments.rate, betas=(0.9, 0.98), weight_decay=0.02, fused=True)
    step = samples = 0
    if last.exists():
        saved = load_checkpoint(last, arguments.tier)
        model.load_state_dict(saved["model"])
        average.load_state_dict(saved["average"])
        optimizer.load_state_dict(saved["optimizer"])
        for module, state in zip(beside, saved["beside"], strict=True):
            module.load_state_dict(state)
        step, samples = saved["step"], saved["samples"]
        print(f"resumed at step {step}, {samples} samples", flush=True)
    model = model.to(memory_format=torch.channels_last)
    frames = arguments.frames or FRAMES_PER_WINDOW[arguments.stage]
    mix = Mix(
        arguments.packs,
        frames,
        arguments.made,
        arguments.stills,
        step,
        arguments.leave_out,
        arguments.faces,
        arguments.faces_share,
    )
    pool = Pool(mix, capacity=arguments.pool, fresh=arguments.fresh, workers=arguments.workers)
    cases = dev_cases(arguments.packs, arguments.dev_pairs) if arguments.dev_pairs else []
    seen: list[dict[str, float]] = []
    began = checked = time.monotonic()
    first = step
    loss_of = STAGES[arguments.stage]
    while True:
        done = max(
            (time.monotonic() - began) / 60 / arguments.minutes, (step - first) / max(arguments.steps - first, 1)
        )
        rate = arguments.rate * min(1.0, (step - first + 1) / (20 if arguments.init or first else 100))
        # An untrained critic gives no useful gradient: raise its weight slowly.
        helpers.adversarial = arguments.adversarial * min(1.0, (step - first + 1) / CRITIC_RAMP_STEPS)
        if arguments.decay:
            rate *= max(0.02, 1 - done)
        for group in optimizer.param_groups:
            group["lr"] = rate
        batch = augment(pool.draw(arguments.batch).to(device)).resized(model.tier.size)
        with autocast(device):
            losses = loss_of(model, batch, helpers)
        optimizer.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        step, samples = step + 1, samples + arguments.batch
        keep = min(0.999, 1 - 1 / (0.25 * (step - first) + 10))
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - keep)
        seen.append({name: float(loss.detach()) for name, loss in losses.items()})
        over = done >= 1 or step >= arguments.steps
        if step % arguments.check_every == 0 or over:
            pace = len(seen) * arguments.batch / (time.monotonic() - checked)
            row: dict[str, float] = {"step": step, "samples": samples, "samples_per_s": round(pace, 1)}
            row |= {name: round(float(np.mean([x[name] for x in seen])), 5) for name in seen[0]}
            with autocast(device):
                row |= evaluate_dev(average, cases, arguments)
            write_log(arguments.run, row)
            state = {"tier": asdict(model.tier), "model": model.state_dict(), "average": average.state_dict()}
            state |= {"optimizer": optimizer.state_dict(), "beside": [m.state_dict() for m in beside]}
            save_checkpoint(last, state | {"step": step, "samples": samples, "stage": arguments.stage})
            seen, checked = [], time.monotonic()
        if over:
            return


def evaluate_dev(model: Model, cases: list[Any], arguments: argparse.Namespace) -> dict[str, float]:
    """Dev figures of the stage; writes a contact sheet to ``RUN/sheet.png``."""
    if arguments.stage == "identity":
        return recognition_figures(model, arguments.packs)
    if not cases:
        return {}
    gains, painted = gains_over_warp(model, cases, with_identity=arguments.stage != "motion")
    shown = ([k for k in range(len(cases)) if cases[k].kind != "any"] or list(range(len(cases))))[::5]
    picture = contact_sheet([cases[k] for k in shown], [painted[k] for k in shown], 3)
    cv2.imwrite(str(arguments.run / "sheet.png"), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    return {name: round(value, 3) for name, value in sorted(gains.items())}


def write_log(run: Path, row: dict[str, float]) -> None:
    """Print a line, append it to ``log.csv`` and draw the curve again."""
    new = not (run / "log.csv").exists()
    with open(run / "log.csv", "a", newline="") as stream:
        writer = csv.DictWriter(stream, row)
        if new:
            writer.writeheader()
        writer.writerow(row)
    print(" ".join(f"{k}={v}" for k, v in row.items()), flush=True)
    draw_curve(run)


def train_in_subprocess(command: list[str]) -> None:
    """Train with these arguments in a subprocess; raises ``SystemExit`` if it fails.

    A second training in the same process hangs, because its loader forks while threads of the first one run.
    """
    done = subprocess.run([sys.executable, "-m", "engines.train", *command], evaluate_dev=False)
    if done.returncode:
        raise SystemExit(done.returncode)


def main(given: list[str] | None = None) -> None:
    """Run the command; bad input ends it with a one-line message."""
    try:
        train(parse_arguments(given))
    except AvatarError as error:
        raise SystemExit(f"engines.train: {error}") from None


if __name__ == "__main__":
    main()
