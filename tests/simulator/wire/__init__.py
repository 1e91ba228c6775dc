"""How the simulator's bytes come and go: recording, delivery, faults, odd HTTP."""
