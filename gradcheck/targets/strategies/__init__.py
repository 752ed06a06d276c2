"""Input specs for Hypothesis: the arrays a spec stands for, special ones first of all.

What is drawn is a literal spec, `array([[0.0, -0.0]], dtype='float64', layout='strided')`: exact, readable, ready to be typed.
"""
