"""A plan that is found for a number of bytes: what each part of a model costs at each width, and the best assignment.

`units` says what shares a width and what it takes, `measuring` what it costs in answers, `assignment` solves exactly,
`searching` goes from costs to a plan, `kept_costs` and `plan_file` are what lies on disk.
"""
