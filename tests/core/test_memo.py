"""What is worked out once for an object, and how long it is kept."""

from agent.core import memo


def counted():
    """A question, and of what it was really asked."""
    asked = []

    @memo.remembered
    def size(of):
        asked.append(of)
        return len(of)

    return size, asked


def test_of_one_object_is_asked_once():
    size, asked = counted()
    one = (1, 2)
    assert [size(one), size(one)] == [2, 2]
    assert asked == [one]


def test_of_an_equal_object_is_asked_anew():
    size, asked = counted()
    one, other = [1], [1]
    assert size(one) == size(other) == 1
    assert len(asked) == 2


def test_the_oldest_answer_gives_way_when_there_are_too_many():
    size, asked = counted()
    objects = [(number,) for number in range(memo.KEPT + 1)]
    for one in objects:
        size(one)
    size(objects[-1])
    assert len(asked) == memo.KEPT + 1
    size(objects[0])
    assert len(asked) == memo.KEPT + 2


def test_of_a_pair_is_asked_once_and_of_an_equal_pair_anew():
    asked = []

    @memo.remembered_pair
    def both(one, other):
        asked.append((one, other))
        return one + other

    one, other = [1], [2]
    assert [both(one, other), both(one, other)] == [[1, 2], [1, 2]]
    assert both(other, one) == [2, 1]
    assert both([1], other) == [1, 2]
    assert asked == [(one, other), (other, one), ([1], other)]


def test_the_oldest_pair_gives_way_when_there_are_too_many():
    asked = []
    both = memo.remembered_pair(lambda one, other: asked.append(one))
    objects = [[number] for number in range(memo.KEPT + 1)]
    for one in (*objects, objects[-1]):
        both(one, objects[0])
    assert len(asked) == memo.KEPT + 1
    both(objects[0], objects[0])
    assert len(asked) == memo.KEPT + 2


def test_a_kept_property_is_worked_out_once_for_its_object():
    class Box:
        def __init__(self):
            self.asked = 0

        @memo.kept
        def size(self):
            """How big it is."""
            self.asked += 1
            return self.asked

    one, other = Box(), Box()
    assert [one.size, one.size, other.size] == [1, 1, 1]
    assert (one.asked, other.asked) == (1, 1)


def test_sixty_four_answers_of_each_question_are_kept():
    size, asked = counted()
    objects = [(number,) for number in range(65)]
    for one in objects:
        size(one)
    assert len(asked) == 65
    size(objects[1])
    assert len(asked) == 65
    size(objects[0])
    assert len(asked) == 66
