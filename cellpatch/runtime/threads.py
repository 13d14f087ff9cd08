"""How long torch's threads wait for one another before they leave their core to another program."""

import os

_TURNS = "10000"  # a fraction of a millisecond


def wait_briefly() -> None:
    """Let the threads of OpenMP (GNU's, torch's on Linux) spin for a moment while they wait, and then sleep.

    Must be called before torch is imported; what the user sets with OMP_WAIT_POLICY or GOMP_SPINCOUNT stays. By default
    they spin for milliseconds: a waiting thread then keeps the core that the other one needs. A step of cnn on two
    cores, another program on one of them: 648 and 572 ms by default, 439 and 447 so; alone 225 and 235, 242 and 231.
    Sleeping at once costs resnet and customvit_s a tenth of their speed when they are alone. No result changes.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = _TURNS
