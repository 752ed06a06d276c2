"""What is checked: input specs, cases, and how `module:fn` becomes them."""
