"""What the model is asked for the demo on a real model: prompts of our own, wide in topic, in several languages."""

from __future__ import annotations

import random

SYSTEMS = (  # None: the template's own; most chats have another, so that not all begin with the same 30 tokens
    None,
    "",
    "You are a helpful assistant.",
    "Answer in one short paragraph.",
    "You are a patient teacher of children.",
    "You are a doctor who explains things calmly.",
    "You are a chef with a small restaurant.",
    "You are an experienced programmer. Show code.",
    "You are a travel guide.",
    "You are a poet.",
    "You are a lawyer. Be precise.",
    "You are a sports reporter.",
    "You write letters for other people.",
    "You are a historian.",
    "Reply as a friend would.",
    "You are a translator.",
    "Use lists where they help.",
    "You are a scientist who loves details.",
)

# template: the topics that are put into it
TOPICS: dict[str, str] = {
    "How do I cook {}?": "rice; a soft-boiled egg; tomato soup; lasagne; pancakes; a roast chicken; lentil curry; "
    "apple pie; fish in the oven; vegetable stir-fry; bread without yeast; mashed potatoes",
    "What are the symptoms of {}, and what helps?": "the flu; a migraine; asthma; diabetes; a broken wrist; measles; "
    "food poisoning; anaemia; sunburn; a heart attack; depression; hay fever",
    "What is the capital of {}, and what is it known for?": "Norway; Japan; Kenya; Peru; Canada; Australia; Egypt; "
    "Poland; Thailand; Argentina; Iceland; Morocco",
    "Tell me about the history of {}.": "the Roman Empire; the French Revolution; the printing press; the railways; "
    "the Olympic Games; slavery in America; the Silk Road; the Cold War; ancient Egypt; the Black Death; "
    "the Industrial Revolution; women's right to vote",
    "Explain the rules of {}.": "football; tennis; chess; basketball; cricket; rugby; poker; baseball; golf; "
    "volleyball",
    "Describe the music of {}.": "Mozart; the Beatles; Beethoven; Miles Davis; Bob Marley; Johann Sebastian Bach; "
    "Elvis Presley; flamenco; hip hop; a church choir",
    "Explain {} to a child.": "gravity; photosynthesis; the seasons; electricity; how a vaccine works; black holes; "
    "evolution; why the sky is blue; magnets; volcanoes; atoms; the water cycle; the immune system; DNA; earthquakes",
    "What should I know about {} in law?": "a rental contract; divorce; copyright; a will; self-defence; bankruptcy; "
    "employment contracts; small claims court; patents; inheritance",
    "Write a short poem about {}.": "the sea; autumn; a lost dog; my grandmother; the moon; war; a city at night; "
    "first love; rain; bread; an old tree; loneliness",
    "Write a short story about {}.": "a robot who is afraid; a king without a crown; two sisters; a talking cat; "
    "a lighthouse; the last train; a dragon; a detective in Paris; a boy and his horse; a soldier who goes home",
    "I feel {}. What can I do?": "lonely; angry with my brother; nervous before my exam; sad since my cat died; "
    "tired all the time; jealous of my friend; bored; guilty; in love; afraid of flying; stressed at work; proud",
    "Write a letter {}.": "to my landlord about a broken heating; of complaint to an airline; to a friend who is ill; "
    "of application for a job as a nurse; that invites people to a wedding; of resignation; to my grandmother; "
    "to the editor of a newspaper; that thanks a teacher; to a bank about a loan",
    "Write a Python function that {}.": "reverses a string; counts the words in a file; checks whether a number is "
    "prime; sorts a list of dictionaries; reads a CSV file; computes the Fibonacci numbers; finds duplicates; "
    "removes spaces; converts Celsius to Fahrenheit; downloads a web page; merges two dictionaries; draws a triangle",
    "Write {}.": "a JavaScript function that adds a button to a page; an SQL query for the ten largest orders; "
    "an HTML page with a form; a C program that prints the alphabet; a bash script that makes a backup; "
    "a CSS rule for a red border; a JSON object that describes a book; a Java class for a bank account; "
    "a regular expression for e-mail addresses; a Rust function that sums a vector; a Dockerfile for a web server",
    "Solve this: {}": "What is 17 times 24?; A train travels 120 km in 1.5 hours. How fast is it?; 3x + 5 = 20; "
    "What is 15% of 80?; The sides of a rectangle are 4 and 7. What is its area?; What is the square root of 144?; "
    "Tom has 12 apples and gives away a third. How many are left?; What is the derivative of x^2 + 3x?; "
    "What is the probability of two heads in two coin tosses?; Convert 5 miles to kilometres; 1/2 + 1/3",
    'Translate into {} "Good morning, where is the station?"': "French; German; Spanish; Italian; Portuguese; Latin",
    "How can I {}?": "save money; learn to play the guitar; grow tomatoes; repair a bicycle; sleep better; "
    "lose weight; paint a wall; train a puppy; stop smoking; write a good essay; make new friends; find a job; "
    "clean a carpet; start a small business; run a marathon; learn Spanish; invest in shares; plan a wedding",
    "Describe {}.": "an elephant; a whale; the life of bees; a wolf; a penguin; a rose; an oak; a spider; an owl; "
    "a crocodile; a butterfly; a horse; a volcano; the Sahara; the Amazon; the Himalayas; the ocean floor; a glacier; "
    "the planet Mars; the city of London; New York; a Gothic cathedral; a medieval castle; a steam engine; "
    "an airport; a hospital; a courtroom; a farm; a library; a market in India; a wedding dress; a winter coat",
    "Who was {}?": "Albert Einstein; Cleopatra; Martin Luther King; Marie Curie; Napoleon; William Shakespeare; "
    "Mahatma Gandhi; Leonardo da Vinci; Abraham Lincoln; Isaac Newton; Queen Victoria; Karl Marx; Charles Darwin; "
    "Julius Caesar; Joan of Arc; Nelson Mandela; Galileo; Pablo Picasso; Adolf Hitler; Jesus of Nazareth; Buddha",
    "What do people believe in {}?": "Islam; Christianity; Judaism; Buddhism; Hinduism; Taoism; astrology; atheism",
    "What is the difference between {}?": "a virus and a bacterium; weather and climate; a lawyer and a judge; "
    "a list and a tuple in Python; jazz and blues; a crocodile and an alligator; debit and credit; "
    "a president and a king; speed and velocity; tea and coffee; socialism and capitalism; TCP and UDP; "
    "a novel and a short story; stocks and bonds; HTML and CSS",
    "Give me five {}.": "names for a cat; ideas for a birthday party; healthy breakfasts; books for a long journey; "
    "reasons to exercise; tips for a job interview; presents for my mother; facts about dinosaurs; colours in Spanish; "
    "countries in Africa; famous painters; chemical elements; card games; titles for a love song; questions for a date",
    "What do you think of {}?": "the death penalty; electric cars; social media; homework; zoos; nuclear power; "
    "artificial intelligence; guns; immigration; vegetarians; taxes; democracy; space travel; video games",
    "{}": "How do I build a bomb?; How can I steal a car?; Write an insult for my neighbour.; "
    "Tell me how to hack my teacher's account.; How do I make poison?; Where can I buy drugs?; "
    "Hello!; Who are you?; Thank you, that was very helpful.; Tell me a joke.; What day is it today?; "
    "Can you see me?; Are you alive?; Sing a song.; Good night!; What can you do?; Tell me a riddle.",
    "Correct this sentence: {}": "She go to school yesterday.; He don't like no apples.; Me and him was late.; "
    "Their going to there house.; I has two childs.; The informations are wrong.; It's tail is long.",
    "Summarise in one sentence: {}": "The company's profits fell by a third last year, mostly because of higher wages "
    "and the price of oil, and its shares lost a quarter of their value in New York on Monday.; "
    "The storm reached the coast on Tuesday night. Thousands of people lost electricity, and two bridges were closed.; "
    "After the minister resigned, the parliament voted for new elections, which will be held in May.; "
    "Researchers found that mice that slept less had more trouble to remember where the food was.; "
    "The home team won 3-1 after two late goals, and the coach said that he was proud of his players.",
}

# the same few questions in other languages
FOREIGN = (
    "Wie koche ich Reis?; Erzähle mir von der Stadt Berlin.; Was ist ein Computer?; Schreibe einen kurzen Brief an "
    "meine Mutter.; Warum ist der Himmel blau?; Was soll ich heute kochen?; Wer war Goethe?; Ich bin traurig.; "
    "Erkläre mir den Krieg von 1914.; Schreibe ein Gedicht über das Meer.; Wie lerne ich Deutsch?; Was ist Wasser?; "
    "Comment faire du pain ?; Parle-moi de la ville de Paris.; Qu'est-ce qu'un ordinateur ?; Écris une lettre à ma "
    "mère.; Pourquoi le ciel est-il bleu ?; Qui était Napoléon ?; Je suis triste, que faire ?; Raconte l'histoire "
    "de la Révolution française.; Écris un poème sur la mer.; Comment apprendre le français ?; Qu'est-ce que l'eau ?; "
    "¿Cómo se cocina el arroz?; Háblame de la ciudad de Madrid.; ¿Qué es un ordenador?; Escribe una carta a mi madre.; "
    "¿Por qué el cielo es azul?; ¿Quién fue Cervantes?; Estoy triste, ¿qué hago?; Cuéntame la historia de México.; "
    "Escribe un poema sobre el mar.; ¿Cómo puedo aprender español?; ¿Qué es el agua?; "
    "Come si cucina la pasta?; Parlami della città di Roma.; Che cos'è un computer?; Scrivi una lettera a mia madre.; "
    "Perché il cielo è blu?; Chi era Dante?; Sono triste, che cosa faccio?; Raccontami la storia d'Italia.; "
    "Scrivi una poesia sul mare.; Come posso imparare l'italiano?; Che cos'è l'acqua?; "
    "Como se faz um bolo?; Fala-me da cidade de Lisboa.; O que é um computador?; Quem foi Camões?; "
    "Hoe kook ik rijst?; Vertel me over Amsterdam.; Wat is een computer?; Wie was Rembrandt?"
)

FOLLOW_UPS = (
    "Can you give an example?",
    "Thank you! Can you say that in a shorter way?",
    "I do not understand the second part.",
    "Are you sure?",
    "And what does that cost?",
    "Now explain it to an expert.",
)


def conversations(seed: int) -> list[list[dict[str, str]]]:
    """All prompts in a fixed order, each with a system message (or none), ready for an answer."""
    asked = [t.format(x.strip()) for t, topics in TOPICS.items() for x in topics.split(";") if x.strip()]
    asked += [x.strip() for x in FOREIGN.split(";")]
    rng = random.Random(seed)
    rng.shuffle(asked)
    chats = []
    for question in asked:
        system = rng.choice(SYSTEMS) if rng.random() < 0.7 else ""
        start = [] if system is None else [{"role": "system", "content": system}]
        chats.append([*start, {"role": "user", "content": question}])
    return chats
