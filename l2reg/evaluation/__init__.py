"""The official Learn2Reg 2021 scores, to the digit."""
