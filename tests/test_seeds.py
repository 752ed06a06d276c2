from gradcheck.seeds import make_generator


def test_the_stream_depends_on_what_it_is_for():
    assert make_generator(0, "case", "x").random() == make_generator(0, "case", "x").random()
    draws = {
        make_generator(*labels).random() for labels in [(0, "case", "x"), (1, "case", "x"), (0, "case", "y"), (0, "casex")]
    }
    assert len(draws) == 4


def test_the_stream_is_the_same_on_every_machine():
    assert make_generator(7, "case", 0, "w").integers(1000, size=3).tolist() == [727, 875, 954]
