"""Continual learning and testing in production, taught and run on real films.

A film service that watches itself: it notices that its model ages, decides when to retrain and on
what, updates the model, tests the update on live visitors, and keeps a record of all of it. Each
part can be used by itself:

    genres        models that tag films with genres, their features and their scores
    diners        visitors with known tastes, the page that they see, the log that they leave
    triggers      measures of drift, triggers that say when to retrain, what fresh data is worth
    curation      which rows to train on: windows, samplers, revisions of the data, lineage
    retraining    ways to update a model, compared by quality and by cost
    ab            A/B tests: assignment, comparisons, sizes, looks on the way, verdicts
    rollouts      a candidate in the shadow, a growing share with a brake, the choice of a test
    interleaving  two rankings in one list: merging, credit for clicks, preference
    bandits       policies that learn while they choose, worlds to try them in, off-policy estimates
    policies      a layer between model and page that follows the clicks within the week
    prompts       language models asked and replayed, prompts as versions, reviews of known truth
    platform      experiments from the draft to the decision: parameters, event log, metrics, audit
    feedback      from what people tell to labels, failing slices, an expert's queue
    registry      versions of a model, what happened to each, who is champion, and what it takes
    loop          the service week by week: its steps, its workspace, its report
    app           the page that people open: versions served by trials, feedback, a board
    delivery      from the registry to machines: updates, smoke tests, workflows, the way back
    dags          the steps of a week as tasks: in Airflow, in Kubeflow
    scale         the same functions on Spark, when a cluster pays, several processes

    catalogue     the films, and the clock that replays their arrival
    settings      every knob of the running system, and random streams with names
    claims        headline figures with the condition under which they hold
    checks        checks of arguments, with one wording
    show          tables, figures and HTML, in one look
    lab           exercises that answer, and a switch for cells that take long
    cli           the command `trending-now`

`from trending_now import ab` gives all public names of a family, and `help(ab)` says what they are.
The notebooks in `nbs/` teach them, in the order in which a service needs them.

Examples
--------
How many visitors does each group of an A/B test need, to see clicks rise from 4% to 4.6%? And did
the split of the first hundred thousand come out as planned?

>>> from trending_now import ab
>>> ab.sample_size_proportions(.04, .046)
17943
>>> round(ab.srm([50_200, 49_800]), 2)
0.21
"""
__version__ = "0.1.0"
