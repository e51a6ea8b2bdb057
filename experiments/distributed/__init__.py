"""The same agent in many processes.

Many players, one learner (--distributed local), each in a process of its own:

player.py      games and agent.act: fills blocks
blocks.py      what a player saw and did in some steps, as one piece of memory
priorities.py  initial priorities, computed by the player
learner.py     the loop: takes blocks, learns what they have paid for
roster.py      who plays, and who takes the place of the dead
local.py       players as processes of this machine
shared.py, weights.py   memory that they share, and the network's weights in it
setup.py       builds it all, as a Trainer wants it
rows.py        the shards' rows on disk
recovery.py    checkpoints of it all
measure.py     what each part costs, and a model of the whole

The same on a cluster (--distributed ray):

cluster.py       finds or starts it
ray_players.py   players as actors
ray_shards.py    replay shards as actors, on disk and in chunks of batches
ray_setup.py     both of them, for the same loop
runner.py        a whole training as an actor, for suites

Several learners (torchrun), which all play, too:

world.py       what they say to each other: gradients, counts, checkpoints
orphans.py     processes that do not outlive the one that started them
share.py       one rank's share of games and batches
ranks.py       who logs, evaluates and saves
together.py    train and resume
"""
