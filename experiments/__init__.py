"""What people run; a command of cli.py is the module of its name.

one training      config.py presets/ checks.py learner_checks.py ranges.py build.py build_network.py train.py loop.py
                  trainer.py log.py
its directory     run.py resume.py files.py checkpoint.py snapshot.py segments.py records.py lines.py provenance.py
scores            evaluate.py scoring.py fingerprint.py choice.py stats.py achievements.py chance.py published.py
many runs         suite.py suite_checks.py suite_board.py matrix.py scheduler.py search.py compare.py comparison.py
                  scored.py remarks.py labels.py tables.py latex.py figures.py sensitivity.py seeds.py report.py
speed             benchmark.py measure.py speed.py arithmetic.py phases.py trace.py tuning.py usage.py peers/
to look at        watch.py viewer/ dashboard/ web.py video.py episodes.py
Weights & Biases  wandb_mirror.py sync.py wandb_workspace.py
evidence          curve.py probes.py memory_speed.py selfcheck.py evidence/
many processes    distributed/ children.py interruption.py
this machine      limits.py doctor.py
to begin with     demo.py list.py options.py
"""
