"""Parameters, optimiser and target network: everything about an agent that changes."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from agents.captured import Captured
from agents.compiled import CompiledMethods, compiled
from agents.explore import Linear
from agents.optimiser import Optimiser, Optimisers
from agents.precision import Bf16, round_weights
from agents.reset import Reset
from agents.sequence import Sequence, below, cut, onto, tree_map
from agents.transition import Foreseen, MultiStep
from envs.timestep import TimeStep


class Algorithm(Protocol):
    """Hyper-parameters and equations; a frozen dataclass, so it cannot hide state.

    What moves is in the network's buffers (`Curious`). What learns from rollouts has `targets` and `games_wait`, too
    (`Rollout`), and what searches before it acts has `plan` (`MuZero`), which finds what `choose` would.
    """

    @property
    def length(self) -> int:
        """Agent steps per sequence that it learns from."""

    @property
    def discount(self) -> float:
        """gamma, per agent step."""

    def choose(self, output: Any, epsilon: float | Tensor) -> tuple[Tensor, Any]:
        """Network output [N, ...] to (action int64 [N], note [N, ...])."""

    def loss(self, online: Any, target: Any, seq: Sequence) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """(loss [B], priority [B], metrics of scalars); unweighted. Pure, but for the statistics of `Curious`.

        Args:
            online, target: networks, (TimeStep [T, B, ...], state [B, ...]) to (output [T, B, ...], next state); the
                target is None for an agent without one.
        """


class Agent:
    """A network that acts and learns.

    Args:
        network: maps (TimeStep [T, B, ...], state) to (output [T, B, ...], state); is trained in place.
        target_period: updates between copies to the target network; 0 for none.
        target_tau: how much of the online network's weights a copy takes; less than 1 lets the target network be their
            running mean.
        target_acts: act with the target network.
        target_phase: updates that count as made before the first: the field's code copies by agent steps, and counts
            those before learning, too.
        bf16: learn with bfloat16 factors; acting stays as it is.
        lookahead: how many batches are drawn before the first of them is learned from, at most.
        foresee: ask the target network once about all that were drawn. Not if it has noise, which every update draws
            anew, nor for a memory or an algorithm whose loss asks it of more than `Transitions.there`.
        reset: when its weights begin anew, and how far.
        fresh: makes the network again, with weights that a number decides.

    Attributes:
        acting: the network that acts, which is what is evaluated.
        found: what the last search found (`Plan`), of an algorithm that plans.
        resets, cycle_begin: how often it began anew, and the updates when it last did.
        average: called with the parameters between backward and clipping. Where several agents learn one thing from
            a share of each batch, it replaces every gradient by the mean of all of theirs; alone, it does nothing.
    """

    def __init__(
        self,
        network: nn.Module,
        algorithm: Algorithm,
        optimiser: Optimisers,
        target_period: int,
        target_phase: int = 0,
        bf16: bool = False,
        lookahead: int = 1,
        foresee: bool = False,
        target_tau: float = 1.0,
        target_acts: bool = False,
        reset: Reset = Reset(),
        fresh: Callable[[int], nn.Module] = lambda number: nn.Identity(),
    ):
        self.algorithm = algorithm
        self.online = network
        self._loss: Any = algorithm.loss
        self._act: Any = self._choose
        self._compiled = False
        self._captured: Captured | None = None
        self.lookahead, self.foresee = lookahead, foresee
        self.target = copy.deepcopy(network).requires_grad_(False) if target_period else None
        for part in self.target.modules() if self.target is not None else ():
            if isinstance(part, nn.RNNBase):  # a copy's weights are apart, and cuDNN would join them at every use
                part.flatten_parameters()
        self.acting: Any = self.target if target_acts else network
        self._forward: Any = self.acting
        self._planner: Any = self.acting  # asked by its methods
        self.found: Any = None
        self.learning: Any = (network, self.target)
        if bf16:
            self.learning = tuple(x and Bf16(x) for x in self.learning)
            if self.target is not None and target_tau == 1 and not target_acts:
                round_weights(self.target)
        self._target_forward: Any = self.learning[1]
        self.target_period, self.target_phase, self.target_tau = target_period, target_phase, target_tau
        self.optimiser = Optimiser(optimiser, network.parameters())
        self.learning_rate = Linear(optimiser.learning_rate, optimiser.learning_rate, 0)
        self.average: Callable[[list[nn.Parameter]], None] = lambda parameters: None
        self.reset, self.fresh = reset, fresh
        self.updates = self.resets = self.cycle_begin = self.end = 0

    def compile(self) -> None:
        """Lets torch compile learning and acting at their first calls (`compiled`); `capture` comes after it."""
        self._compiled = True
        self._loss, self._forward = compiled(self.algorithm.loss), compiled(self.acting)
        self._planner = CompiledMethods(self.acting)
        if self.foresee:
            self._target_forward = compiled(self.learning[1])

    def capture(self) -> None:
        """Lets a GPU act, and learn, in one launch each (`Captured`).

        Not for networks whose memory looks at where episodes begin, nor where `average` is to be called.
        """
        device = next(self.online.parameters()).device
        self._epsilon = torch.zeros((), device=device)
        self._captured = Captured(self._captured_updates)
        if self._compiled:
            self.optimiser.compile()  # elsewhere a rate is a number, which would be compiled into it
        if not self.optimiser.settings.capturable:
            self.lookahead = 1
        self._act = Captured(self._choose, kind=lambda: self.acting.training, copies=True)

    def plan(self, agent_steps: int, begin: int) -> None:
        """Tells it how long it learns, over so many agent steps from `begin` on: the learning rate may fall to 0, and
        no reset comes too late."""
        self.end = begin + agent_steps
        if self.optimiser.settings.anneal:
            self.learning_rate = Linear(self.learning_rate.start, 0.0, agent_steps, begin)

    def initial_state(self, batch: int) -> Any:
        """The memory [batch, ...] before an episode's first step."""
        return self.online.initial_state(batch)  # type: ignore[operator]

    @torch.no_grad()
    def act(self, step: TimeStep, state: Any, epsilon: float | Tensor) -> tuple[Tensor, Any, Any]:
        """One action per game: TimeStep [N] and state to (action int64 [N], note, next state)."""
        if self._captured is not None:
            if not isinstance(epsilon, Tensor):
                epsilon = self._epsilon.fill_(epsilon)
            epsilon = onto(self._epsilon.device, epsilon)
        return self._act(step, state, epsilon)

    def _choose(self, step: TimeStep, state: Any, epsilon: float | Tensor) -> tuple[Tensor, Any, Any]:
        if plan := getattr(self.algorithm, "plan", None):
            self.found = plan(self._planner, step, self.acting.training)
            return self.found.action, (self.found.policy, self.found.value), state
        output, after = self._forward(tree_map(lambda x: x[None], step), state)
        action, note = self.algorithm.choose(tree_map(lambda x: x[0], output), epsilon)
        return action, note, after

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """While it lasts, the network acts without the noise that explores, and nothing in it moves."""
        self.acting.eval()
        try:
            yield
        finally:
            self.acting.train()

    def room(self) -> int:
        """How many batches may be drawn at once: with `lookahead` several, not past a change of the target network."""
        if not self.target_period:
            return self.lookahead
        return min(self.lookahead, self.target_period - self._since_copy)

    @property
    def _since_copy(self) -> int:
        """Updates since the last copy to the target network was due."""
        return (self.updates + self.target_phase) % self.target_period

    def learn(self, seq: Sequence, count: int = 1, agent_steps: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
        """`count` updates, each with its part of the places: (new priorities, metrics of the last), on the device.

        On a GPU the next call overwrites what this one returns.

        Args:
            seq: sequences [T, count * B], batches of B side by side.
            agent_steps: made so far; the learning rate is that of this moment.

        Returns:
            Priorities, float [count * B], and metrics by name, each [].
        """
        seq = self._with_horizon(seq, count)
        rates = [self.learning_rate(agent_steps)] * count
        if self._captured is None:
            priority, metrics = self._updates(seq, rates)
        else:
            priority, metrics, gradients = self._captured(seq, onto(seq.weight.device, torch.tensor(rates)))
            if not self.optimiser.settings.capturable:
                for p, gradient in zip(self.online.parameters(), gradients, strict=True):
                    p.grad = gradient
                self.optimiser.step(rates[0])
        self.updates += count
        if self.target is not None and self._since_copy == 0:
            self._follow(self.target)
        if self.reset.period and self.resets < (due := agent_steps // self.reset.period):
            if self.updates == count:  # those due before there was anything to forget
                self.resets = due
            else:
                self._reset(due)
        return priority, metrics

    def _with_horizon(self, seq: Sequence, count: int) -> Sequence:
        """Sequences [T, count * B] that note the horizons of as many updates, if the algorithm lets them move."""
        algorithm = getattr(self.algorithm, "algorithm", self.algorithm)
        if not hasattr(algorithm, "horizon"):
            return seq
        batch, now = len(seq.weight) // count, self.updates - self.cycle_begin
        each = [algorithm.horizon(now + i) for i in range(count) for _ in range(batch)]
        return seq._replace(horizon=tuple(onto(seq.weight.device, torch.tensor(x)) for x in zip(*each, strict=True)))

    @torch.no_grad()
    def _follow(self, target: nn.Module) -> None:
        """Takes the online network over into the target network, or a part of it (Lillicrap et al. 2016, alg. 1)."""
        if self.target_tau == 1:
            target.load_state_dict(self.online.state_dict())
            return
        torch._foreach_lerp_(list(target.parameters()), list(self.online.parameters()), self.target_tau)
        for mine, theirs in zip(target.buffers(), self.online.buffers(), strict=True):
            mine.copy_(theirs)

    def _reset(self, number: int) -> None:
        """Begins anew for the `number`-th time, if as much is still to come as came since the last; see `Reset`."""
        self.resets = number
        if (number + 1) * self.reset.period > self.end:
            return
        for i, network in enumerate(filter(None, (self.online, self.target))):
            self.reset.renew(network, self.fresh(2 * number + i))
        self.optimiser.forget()
        self.cycle_begin = self.updates

    def _updates(self, seq: Sequence, rates: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """`learn`, one operation at a time; a learning rate, float or [], for each update."""
        priorities: list[Tensor] = []
        metrics: dict[str, Tensor] = {}
        for part, target, rate in zip(cut(seq, len(rates)), self._foreseen(seq, len(rates)), rates, strict=True):
            priority, metrics = self._gradients(part, target)
            priorities.append(priority)
            self.optimiser.step(rate)
        return torch.cat(priorities), metrics

    def _captured_updates(self, seq: Sequence, rates: Tensor) -> tuple[Tensor, dict[str, Tensor], list[Tensor | None]]:
        """What is captured of learning: (priorities [B], metrics, gradients), and the steps along them if it can be."""
        if self.optimiser.settings.capturable:
            priority, metrics = self._updates(seq, rates)
        else:
            priority, metrics = self._gradients(seq, self.learning[1])
        return priority, metrics, [p.grad for p in self.online.parameters()]

    @torch.no_grad()
    def _foreseen(self, seq: Sequence, count: int) -> list[Any]:
        """What stands for the target network in each of `count` updates: of several it is asked at once, if it can be.

        Eight updates of `dqn` are 3 to 6 % faster so, on two cores.
        """
        if count == 1 or not self.foresee:
            return [self.learning[1]] * count
        assert isinstance(self.algorithm, MultiStep)
        x = self.algorithm.fold(seq)
        output, _ = self._target_forward(x.later, ())  # [1, K * count * B, ...]

        def part(output: Tensor, i: int) -> Tensor:
            return output.unflatten(1, x.hop.shape).chunk(count, 2)[i].flatten(1, 2)

        return [Foreseen(tree_map(partial(part, i=i), output)) for i in range(count)]

    def _gradients(self, seq: Sequence, target: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """(priorities [B], metrics); the gradients are left with the parameters."""
        loss, priority, metrics = self._loss(self.learning[0], target, seq)
        weighted = (seq.weight * loss).mean()
        metrics["losses/loss"] = weighted.detach()
        self.optimiser.zero_grad()
        weighted.backward()
        self.average(list(self.online.parameters()))
        if bound := self.optimiser.settings.clip_norm:
            metrics["losses/grad_norm"] = clip_gradients(list(self.online.parameters()), bound)
        return priority, metrics

    def tensors(self) -> dict[str, Tensor]:
        """Every parameter and optimiser statistic by a flat name, such as online.torso.conv.0.weight."""
        found = {f"online.{name}": x for name, x in self.online.state_dict().items()}
        if self.target is not None:
            found |= {f"target.{name}": x for name, x in self.target.state_dict().items()}
        return found | {f"optimiser.{name}": x for name, x in self.optimiser.state_dict().items()}

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """The inverse of `tensors`, for an agent of the same making.

        Raises:
            ValueError: a name, shape or dtype is not what this agent has.
        """
        load_network(self.online, below(tensors, "online."))
        if self.target is not None:
            own, theirs = self.target.state_dict(), below(tensors, "target.")
            # Its rounding is this code's: an older one rounded its last layers, too.
            load_network(self.target, {k: x.to(own[k].dtype) if k in own else x for k, x in theirs.items()})
        self.optimiser.load_state_dict(below(tensors, "optimiser."))
        if self._captured is not None:
            self._captured.forget()  # the optimiser has other statistics now


def clip_gradients(parameters: list[nn.Parameter], bound: float) -> Tensor:
    """Scales gradients so that their global norm is at most `bound`; returns what it was, float32 []."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    if gradients[0].device.type == "cpu":  # where the norm of a whole matrix takes twice as long as those of its rows
        gradients = [torch.linalg.vector_norm(g, dim=1) if g.dim() == 2 else g for g in gradients]
    norm = nn.utils.get_total_norm(gradients)
    # Most updates need none, and to multiply by 1 is a pass over all gradients; but to ask a GPU is to wait for it.
    if norm.device.type != "cpu" or not norm + 1e-6 <= bound:
        nn.utils.clip_grads_with_norm_(parameters, bound, norm)
    return norm


def load_network(network: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Copies tensors into a network's parameters and buffers.

    Raises:
        ValueError: a name, shape or dtype is not what this network has.
    """
    own = network.state_dict()
    if own.keys() != tensors.keys():
        unequal = sorted(own.keys() ^ tensors.keys())
        raise ValueError(f"weights do not fit this network: {', '.join(unequal[:3])}")
    for name, x in own.items():
        if (x.shape, x.dtype) != (tensors[name].shape, tensors[name].dtype):
            raise ValueError(
                f"weights do not fit this network: {name} is {tensors[name].dtype} {tuple(tensors[name].shape)},"
                f" not {x.dtype} {tuple(x.shape)}"
            )
    network.load_state_dict(tensors)
