"""The processes behind the roles."""

from __future__ import annotations

from rayflow.cluster.ray_actors import BY_ROLE
from rayflow.runtime.roster import ROLES


def test_every_role_has_a_class_by_which_ray_lists_it() -> None:
    assert BY_ROLE.keys() == ROLES
    assert len({cls.__name__ for cls in BY_ROLE.values()}) == len(ROLES)
