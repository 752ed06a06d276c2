"""The pytest plugin's place. It registers nothing yet: use `gradcheck.assert_gradients` inside a test."""
