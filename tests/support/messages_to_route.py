"""A small made-up world of messages whose owner is known: for tests of what learns."""

from __future__ import annotations

import random

from rayflow.models.classifier.material import Material

THINGS = {
    "billing": ["invoice", "refund", "payment", "credit note", "charge on my card", "price of the plan", "receipt"],
    "technical": ["login page", "error message", "crash", "app update", "slow server", "broken link", "password reset"],
    "travel": ["flight", "hotel room", "visa", "train ticket", "boarding pass", "rental car", "luggage"],
    "cooking": ["recipe", "oven temperature", "pasta sauce", "baking time", "spice mix", "soup", "dessert"],
}
STRANGE = ["the moon's orbit", "a sonnet", "quantum fields", "the emperor's horse", "my neighbour's trombone"]
ASKED = [
    "where is the {}", "i have a question about the {}", "can you help me with the {}", "what about a {}",
    "please look at my {} again", "there is something wrong with the {}", "tell me more about the {}", "i need a {}",
    "who takes care of the {}", "how do i change the {}",
]  # fmt: skip


def messages(per_label: int, seed: int) -> list[tuple[str, str]]:
    """So many (text, label) of each label, in random order."""
    rng = random.Random(seed)
    made = [
        (rng.choice(ASKED).format(rng.choice(things)), label)
        for label, things in THINGS.items()
        for _ in range(per_label)
    ]
    rng.shuffle(made)
    return made


def unseen(learnt: Material, seed: int) -> list[tuple[str, int]]:
    """Messages that are not in the material, with the position of their label."""
    known = set(learnt.texts)
    return [(text, learnt.labels.index(label)) for text, label in messages(60, seed) if text not in known]


def strange(count: int, seed: int) -> list[str]:
    """Messages that are nobody's."""
    rng = random.Random(seed)
    return [rng.choice(ASKED).format(rng.choice(STRANGE)) for _ in range(count)]


def material(per_label: int = 12, seed: int = 1, *, nobodys: int = 0) -> Material:
    labels = list(THINGS)
    rows = [(text, [labels.index(label)]) for text, label in messages(per_label, seed)]
    rows += [(text, []) for text in strange(nobodys, seed)]
    return Material(labels, [text for text, _ in rows], [owners for _, owners in rows])
