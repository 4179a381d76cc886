"""Generators that do not learn: what a trained one, or a campaign with it, should beat.

What a latent vector is to them. A baseline draws a design by a chain of choices: which parent,
which element in the place of its first, and so on. Each choice takes one number `u` between 0 and 1
and reads it through the cumulative probabilities of the options. Those numbers, brought to a
normal scale, are the latent vector: `z = ndtri(u)`. So

- the prior is standard normal, exactly, and `decode` takes no chance: the loop needs no other rules
  for these generators than for trained ones;
- a short step changes few choices, and options stand in an order in which neighbours are alike
  (elements by their Mendeleev number, parents by formula and group): search has some meaning,
  though less than in a space that was trained for it;
- `encode` asks each choice which number would have made it, and takes the middle.

Light transport calls it primary sample space (Kelemen et al., Computer Graphics Forum 21, 2002).

What a surrogate sees is something else. A latent vector of choices tells it little, so `features`
are those of the trained generator that the recipe names under `features`. A campaign with a
baseline and one with that generator then differ only in what is proposed, which is what is
compared.

The recipes are YAML files, `generators/recipes/baselines/NAME.yaml` and any that a user writes:

- `substitution`: other elements in known crystals, by data-mined similarity (`templates`);
- `prototypes`: allowed elements in AFLOW prototypes, charge-neutral (`templates`);
- `random`: random symmetric crystals (`genome`, `symmetric`);
- `genetic`: crosses and mutants of a population (`symmetric`, `operators`);
- `external`: what another program writes (`generators.crystals.external`).
"""
