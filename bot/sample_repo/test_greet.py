import unittest

from greet import greeting


class GreetingTest(unittest.TestCase):
    def test_greets_by_name(self) -> None:
        self.assertEqual(greeting("Ada"), "Hello, Ada!")

    def test_greets_everybody_without_a_name(self) -> None:
        self.assertEqual(greeting("  "), "Hello, everybody!")


if __name__ == "__main__":
    unittest.main()
