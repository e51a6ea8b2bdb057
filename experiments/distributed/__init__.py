"""Many players, one learner: the objects of a single process, each in a process of its own.

player.py      games and agent.act: fills blocks
blocks.py      what a player saw and did in some steps, as one piece of memory
priorities.py  initial priorities, computed by the player
learner.py     the loop: takes blocks, learns what they have paid for
local.py       players as processes of this machine: blocks and weights in shared memory
recovery.py    checkpoints of it all
"""
