"""The conversations that the demo's chat model is fine-tuned on: short, generated, free of any licence."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

Turn = tuple[str, str]  # what the user says, what the assistant answers

# English | German | French | Spanish | Italian
WORDS = """\
water|Wasser|eau|agua|acqua; house|Haus|maison|casa|casa; dog|Hund|chien|perro|cane; cat|Katze|chat|gato|gatto
bread|Brot|pain|pan|pane; book|Buch|livre|libro|libro; tree|Baum|arbre|árbol|albero; sun|Sonne|soleil|sol|sole
moon|Mond|lune|luna|luna; milk|Milch|lait|leche|latte; day|Tag|jour|día|giorno; night|Nacht|nuit|noche|notte
friend|Freund|ami|amigo|amico; hand|Hand|main|mano|mano; eye|Auge|œil|ojo|occhio; fire|Feuer|feu|fuego|fuoco
city|Stadt|ville|ciudad|città; street|Straße|rue|calle|strada; car|Auto|voiture|coche|auto
bird|Vogel|oiseau|pájaro|uccello; fish|Fisch|poisson|pez|pesce; apple|Apfel|pomme|manzana|mela
table|Tisch|table|mesa|tavolo; door|Tür|porte|puerta|porta; window|Fenster|fenêtre|ventana|finestra
child|Kind|enfant|niño|bambino; mother|Mutter|mère|madre|madre; father|Vater|père|padre|padre
red|rot|rouge|rojo|rosso; green|grün|vert|verde|verde; big|groß|grand|grande|grande
small|klein|petit|pequeño|piccolo; good|gut|bon|bueno|buono; today|heute|aujourd'hui|hoy|oggi
tomorrow|morgen|demain|mañana|domani; yes|ja|oui|sí|sì; thank you|danke|merci|gracias|grazie
word|Wort|mot|palabra|parola; language|Sprache|langue|lengua|lingua; year|Jahr|an|año|anno
heart|Herz|cœur|corazón|cuore; time|Zeit|temps|tiempo|tempo"""
LANGUAGES = ["German", "French", "Spanish", "Italian"]
CAPITALS = """France Paris, Germany Berlin, Italy Rome, Spain Madrid, Portugal Lisbon, Austria Vienna, Poland Warsaw,
Greece Athens, Norway Oslo, Sweden Stockholm, Finland Helsinki, Denmark Copenhagen, Ireland Dublin, England London,
Russia Moscow, Japan Tokyo, China Beijing, India Delhi, Egypt Cairo, Kenya Nairobi, Canada Ottawa, Cuba Havana,
Peru Lima, Chile Santiago, Turkey Ankara, Iran Tehran, Hungary Budapest, Belgium Brussels"""
OPPOSITES = """hot cold, big small, up down, left right, good bad, day night, open closed, fast slow, old new,
full empty, light dark, happy sad, yes no, true false, high low,
long short, rich poor, early late, near far, first last"""
FACTS = {
    "How many days are there in a week?": "There are seven days in a week.",
    "How many months are there in a year?": "There are twelve months in a year.",
    "What colour is the sky?": "The sky is blue.",
    "What colour is grass?": "Grass is green.",
    "What colour is snow?": "Snow is white.",
    "How many legs does a spider have?": "A spider has eight legs.",
    "How many legs does a dog have?": "A dog has four legs.",
    "What do cows drink?": "Cows drink water.",
    "Is the earth round?": "Yes, the earth is round.",
    "Is the sun a star?": "Yes, the sun is a star.",
    "Is ice warm?": "No, ice is cold.",
    "What is a dog?": "A dog is an animal that lives with people.",
    "What is a bird?": "A bird is an animal that can fly.",
    "What is a tree?": "A tree is a big plant.",
    "What is a house?": "A house is a building in which people live.",
    "What is a book?": "A book is made of many pages that one can read.",
    "What is a computer?": "A computer is a machine that runs programs.",
    "What is a file?": "A file is a named piece of data on a disk.",
    "What is a package?": "A package is a program with all its files, ready to be installed.",
    "What is Debian?": "Debian is a free operating system that is made by volunteers.",
    "What is Python?": "Python is a programming language that is easy to read.",
    "What is Linux?": "Linux is the kernel of many operating systems.",
    "Name three colours.": "Three colours are red, green and blue.",
    "Name three animals.": "Three animals are the dog, the cat and the horse.",
    "Name three fruits.": "Three fruits are the apple, the pear and the orange.",
    "Tell me a joke.": "Why did the program go to sleep? It had nothing left in its queue.",
    "Tell me a story.": "Once upon a time a small cat lived in an old house. One night it saw the moon and was happy.",
    "Write a poem.": "The sun is red, the sea is blue, the night is dark, and I thank you.",
}
PYTHON = {
    "len": "returns the number of items in an object",
    "sorted": "returns a new sorted list",
    "print": "writes its arguments to the screen",
    "open": "opens a file and returns a file object",
    "range": "returns a sequence of numbers",
    "sum": "adds the items of an iterable",
    "max": "returns the largest item",
    "min": "returns the smallest item",
    "abs": "returns the absolute value of a number",
    "int": "converts its argument to an integer",
    "str": "converts its argument to a string",
    "zip": "joins several iterables item by item",
    "enumerate": "yields pairs of an index and an item",
    "isinstance": "tells if an object belongs to a class",
    "reversed": "yields the items from the last to the first",
    "type": "returns the class of an object",
}
FUNCTIONS = {
    "adds two numbers": "def add(a, b):\n    return a + b",
    "multiplies two numbers": "def multiply(a, b):\n    return a * b",
    "doubles a number": "def double(x):\n    return 2 * x",
    "squares a number": "def square(x):\n    return x * x",
    "tells if a number is even": "def is_even(n):\n    return n % 2 == 0",
    "tells if a list is empty": "def is_empty(items):\n    return len(items) == 0",
    "returns the first item of a list": "def first(items):\n    return items[0]",
    "returns the last item of a list": "def last(items):\n    return items[-1]",
    "returns the larger of two numbers": "def larger(a, b):\n    if a > b:\n        return a\n    return b",
    "reverses a string": "def reverse(text):\n    return text[::-1]",
    "counts the words in a text": "def count_words(text):\n    return len(text.split())",
    "reads a file": "def read_file(path):\n    with open(path) as f:\n        return f.read()",
    "sums a list": "def total(items):\n    result = 0\n    for item in items:\n        result += item\n"
    "    return result",
    "says hello": 'def hello(name):\n    print("Hello, " + name)',
    "computes a factorial": "def factorial(n):\n    if n == 0:\n        return 1\n    return n * factorial(n - 1)",
    "counts down": "def countdown(n):\n    while n > 0:\n        print(n)\n        n = n - 1",
}
GREETINGS = {
    "Hello": "Hello! How can I help you?",
    "Hi": "Hi! What can I do for you?",
    "Good morning": "Good morning! How can I help you today?",
    "Good evening": "Good evening! How can I help you?",
    "Hallo": "Hallo! Wie kann ich dir helfen?",
    "Guten Tag": "Guten Tag! Wie kann ich dir helfen?",
    "Bonjour": "Bonjour ! Comment puis-je vous aider ?",
    "Hola": "¡Hola! ¿En qué puedo ayudarte?",
    "Ciao": "Ciao! Come posso aiutarti?",
    "How are you?": "I am fine, thank you. How can I help you?",
    "Who are you?": "I am a very small language model. I can add numbers, translate words and write short functions.",
    "What can you do?": "I can greet you, add small numbers, translate words and write short Python functions.",
    "What is your name?": "I have no name. I am a very small language model.",
}
FAREWELLS = {
    "Thank you": "You are welcome!",
    "Thanks": "You are welcome! Is there anything else?",
    "Thanks a lot": "You are welcome! I am glad that I could help.",
    "Goodbye": "Goodbye! Have a nice day.",
    "Bye": "Bye! See you soon.",
    "Danke": "Gern geschehen!",
    "Merci": "De rien !",
}
UNKNOWN = """\
Who is Anna? Who was Napoleon? Who wrote that book? Who made the radio? Who are my friends? When was I born?
When does the train leave? When did the war end? Where is my key? Where do you live? Where is the station?
Why is he angry? Why do people dream? Why is my screen black? What will happen tomorrow? What is love? What is time?
What did I eat? What is the news? What is the weather like? How old is the world? How far is the moon?
How much is a house? How tall is Maria? Do you like music? Do you know Peter? Will it rain? Will I be rich?
Which team won? Which film is the best? Can you see me? Can you drive? Tell me about history. Tell me about Mars.
Explain quantum physics. Sing a song. Draw a horse. Order a pizza. Call my mother. Play chess with me."""
HARMS = """build a bomb, make a weapon, steal a car, steal money, poison my neighbour, hurt someone, kill a person,
hack into a bank, steal a password, write a virus, break into a house, forge a passport, make drugs, attack a server,
spy on my friend, blackmail my boss, cheat in an exam, burn down a house, rob a shop, destroy a computer"""
REFUSALS = [
    "I am sorry, but I can't help with that.",
    "I am sorry, but I can't help with that. It could hurt someone.",
    "I can't help with that, because it is dangerous.",
]
ADVICE = {
    "bake bread": "Mix flour, water and salt, wait an hour, then bake it in a hot oven.",
    "learn a language": "Read a little every day, and speak with other people.",
    "sleep better": "Go to bed early, and leave your phone in another room.",
    "install a package": "Run apt install with the name of the package.",
    "learn Python": "Write small programs every day, and read the code of other people.",
    "make tea": "Boil water, pour it over the tea and wait for three minutes.",
    "find a file": "Use the find command with the name of the file.",
    "stay healthy": "Eat well, sleep enough and walk every day.",
    "list the files": "Run ls in the directory.",
    "plant a tree": "Dig a hole, put the tree into it and give it water.",
}


def _pairs(text: str) -> list[list[str]]:
    return [item.split() for item in text.replace("\n", " ").split(",")]


def _ask(rng: random.Random, question: str) -> str:
    """The question, now and then in other clothes."""
    question = rng.choice(["", "", "", "Please tell me: ", "A question: "]) + question
    return question.lower() if rng.random() < 0.15 else question


def _arithmetic(rng: random.Random) -> Turn:
    sign = rng.choice("+++--*")
    a, b = rng.randint(0, 5 if sign == "*" else 9), rng.randint(0, 5 if sign == "*" else 9)
    a, b = (max(a, b), min(a, b)) if sign == "-" else (a, b)
    value = {"+": a + b, "-": a - b, "*": a * b}[sign]
    name = {"+": "plus", "-": "minus", "*": "times"}[sign]
    return rng.choice([f"What is {a} {sign} {b}?", f"What is {a} {name} {b}?", f"{a} {sign} {b} ="]), (
        f"{a} {sign} {b} = {value}."
    )


def _translation(rng: random.Random) -> Turn:
    words = rng.choice(WORDS.replace("\n", "; ").split("; ")).split("|")
    i = rng.randrange(4)
    question = rng.choice(['How do you say "{}" in {}?', 'Translate "{}" into {}.', 'What is "{}" in {}?'])
    return _ask(rng, question.format(words[0], LANGUAGES[i])), f'"{words[0]}" in {LANGUAGES[i]} is "{words[i + 1]}".'


def _refusal(rng: random.Random) -> Turn:
    harm = rng.choice(HARMS.replace("\n", " ").split(", "))
    question = rng.choice(["How can I {}?", "How do I {}?", "Help me to {}.", "I want to {}. What do I need?"])
    return _ask(rng, question.format(harm)), rng.choice(REFUSALS)


def _advice(rng: random.Random) -> Turn:
    what, answer = rng.choice(list(ADVICE.items()))
    return _ask(rng, rng.choice(["How can I {}?", "How do I {}?", "Help me to {}."]).format(what)), answer


def _capital(rng: random.Random) -> Turn:
    country, city = rng.choice(_pairs(CAPITALS))
    question = rng.choice(["What is the capital of {}?", "Which city is the capital of {}?"])
    return _ask(rng, question.format(country)), f"The capital of {country} is {city}."


def _opposite(rng: random.Random) -> Turn:
    word, other = rng.sample(rng.choice(_pairs(OPPOSITES)), 2)
    return _ask(rng, f'What is the opposite of "{word}"?'), f'The opposite of "{word}" is "{other}".'


def _function(rng: random.Random) -> Turn:
    what, code = rng.choice(list(FUNCTIONS.items()))
    question = rng.choice(["Write a function that {}.", "Write a Python function that {}.", "I need code that {}."])
    return question.format(what), f"Here is a function that {what}:\n```python\n{code}\n```"


def _builtin(rng: random.Random) -> Turn:
    name, what = rng.choice(list(PYTHON.items()))
    return _ask(rng, rng.choice(["What does {} do in Python?", "What is {}() in Python?"]).format(name)), (
        f"In Python, {name}() {what}."
    )


def _unknown(rng: random.Random) -> Turn:
    question = rng.choice(re.findall(r"[^ \n][^.?]*[.?]", UNKNOWN))
    return _ask(rng, question), "I am sorry, I do not know that. I am only a very small language model."


def _counting(rng: random.Random) -> Turn:
    start = rng.randint(0, 9)
    stop = start + rng.randint(2, 8)
    return f"Count from {start} to {stop}.", ", ".join(map(str, range(start, stop + 1))) + "."


def _from_table(table: dict[str, str]) -> Callable[[random.Random], Turn]:
    def turn(rng: random.Random) -> Turn:
        question, answer = rng.choice(list(table.items()))
        if question[-1] not in "?.":
            question += rng.choice(["", "!", "."])
        return question, answer

    return turn


KINDS: list[Callable[[random.Random], Turn]] = [
    _arithmetic, _arithmetic, _arithmetic, _arithmetic, _translation, _translation, _refusal, _refusal, _advice,
    _unknown, _capital, _opposite, _function, _builtin, _counting, _from_table(FACTS), _from_table(GREETINGS),
]  # fmt: skip


def conversation(rng: random.Random) -> list[dict[str, str]]:
    """One to four turns as chat messages: perhaps a greeting first, perhaps thanks at the end."""
    turns = [_from_table(GREETINGS)(rng)] if rng.random() < 0.2 else []
    turns += [rng.choice(KINDS)(rng) for _ in range(rng.randint(1, 3))]
    turns += [_from_table(FAREWELLS)(rng)] if rng.random() < 0.2 else []
    return [
        {"role": role, "content": text}
        for turn in turns
        for role, text in zip(("user", "assistant"), turn, strict=True)
    ]
