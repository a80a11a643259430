//! Texts and ids that stand for ordinary input where the user gives none.

/// Shows calibration what ordinary text does, where the user gives none.
pub const PARAGRAPH: &str = "The sensor in the kitchen shows 21.5 degrees, and it is raining outside. Please turn on the lights at seven \
o'clock, then read me the news. Once upon a time there was an old king who lived in a castle by the sea; he said to his daughter: \"Go, and do \
not come back before you have found the golden bird!\" In 1998, about 3,400 people were asked how they travel to work. Most of them (62 %) \
answered that they walk, ride a bicycle or take the bus. What would you do if you could start again?";

/// Ordinary text of several kinds for what must tell a good network from a damaged one: a report, a dialogue, a tale, instructions, code.
pub const TEXT: &str = "\
The ferry from the mainland leaves at a quarter past six. In summer it is full before it has left the harbour, but in November there are days \
when the captain carries nothing except the post, two crates of vegetables and the teacher, who lives on the other side and does not like the \
sea. She has taken the same seat for eleven years. When the weather is bad she closes her eyes and counts the waves; when it is good she corrects \
the essays of her pupils, and the ink on them smells of salt.\n\n\
\"Why don't you move to the island?\" the captain once asked her. \"There are empty houses enough.\"\n\
\"Because then I would have no reason to come back,\" she said, and he thought about that for a long time.\n\n\
A battery stores energy in chemical form. While it is discharged, ions move through the electrolyte from one electrode to the other and electrons \
take the way through the circuit, where they do useful work. The voltage depends on the materials; the capacity depends on how much of them there \
is. Heat shortens the life of most cells: as a rule of thumb, it is halved for every ten degrees above room temperature. In 2019 about 160 \
gigawatt hours were produced, four years later it was more than 700, and the price of a kilowatt hour had fallen from 180 to 115 dollars.\n\n\
How to repair a dripping tap: first turn off the water and open the tap, so that the pipe is empty. Unscrew the handle with a small screwdriver, \
then loosen the nut below it with a wrench. Take out the valve and look at the rubber washer at its end. If it is worn, replace it by one of the \
same size. Put everything together in the opposite order, do not tighten the nut too much, and turn the water on again.\n\n\
Once upon a time there was a miller who had three sons, a donkey and a cat. The eldest got the mill, the second got the donkey, and nothing was \
left for the youngest but the cat. \"What shall I do with it?\" he said to himself. \"If I let the furrier make gloves of its skin, I will have \
warm hands for one winter, and then I must starve.\" But the cat had understood every word, and it answered: \"Give me a pair of boots and a sack, \
and you will see that your share was not the worst.\"\n\n\
def mean(values):\n    total = 0.0\n    for value in values:\n        total += value\n    return total / len(values) if values else None\n\n\
The council met on Tuesday to discuss the new bridge. Supporters said that it would bring trade and shorten the way to the hospital by twenty \
minutes; opponents feared noise, traffic and the end of the old market. After three hours no decision had been made. The mayor proposed to ask \
the citizens in spring. \"We have lived without this bridge for four hundred years,\" he said, \"so we can wait another six months.\"\n\n\
Question: Which is larger, the number of days in a year or the number of hours in two weeks? Answer: A year has 365 days. Two weeks are fourteen \
days of twenty-four hours each, which is 336 hours. So the number of days in a year is larger.\n\n\
The house stood at the end of the lane, behind two old apple trees. Nobody had painted it since the war, and the rain had made the wood grey and \
soft. Inside, however, everything was as it had always been: the clock above the stove, the blue plates, the long table at which nine children \
had learned to read. My grandmother used to say that a house remembers. I did not believe her then. But when I opened the door after so many \
years, and the third step of the stairs made the same small sound under my foot, I knew at once what she had meant.\n";

/// A fixed sequence of ids that visits the whole vocabulary; for prompts without a tokenizer and for ranges.
pub fn scattered_ids(n: usize, vocab: usize) -> Vec<u32> {
    let mut state = 0x2545_F491u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state
    };
    (0..n).map(|_| ((u64::from(next()) * vocab as u64) >> 32) as u32).collect()
}
