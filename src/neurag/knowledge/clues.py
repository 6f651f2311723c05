"""What a candidate answer's look says about its being asked for: log odds, one row a kind of clue.

Written by scripts/candidate_weights.py from real questions; candidates.py says what each clue means (Passage.clues).
Not to be edited by hand.

    >>> WEIGHTS["before a"] > WEIGHTS["before adv"]
    True
"""

TABLE = """
after  ( 0.54  ) 0.19  , 0.40  a -0.50  abstract -0.21  adj -0.37  be 0.27  cap -0.42  caps -0.40  dash -0.30
after  ed 0.33  end 0.54  in -0.17  ing 0.12  noun -0.46  num -0.46  number -0.55  of -0.60  owner -0.47
after  plural 0.17  poss -0.25  pron 0.18  quant -0.25  quote 0.19  rel 0.28  stop -0.28  the -0.41  to -0.10
after  unit -0.27  verb 0.38
alone  abstract -0.36  adv -0.44  ed -0.45  ing -0.23  noun -0.17  num 0.59  number 1.10  quant -0.33  unit -0.30
alone  verb -0.46  year 0.77
always  yes -2.78
before  ( 0.27  , 0.18  a 0.08  abstract -0.27  adj -0.47  adv -0.63  and 0.12  be 0.66  by 0.45  cap -0.53
before  caps -0.28  ed 0.27  from -0.41  in 0.27  ing -0.14  initial -0.44  noun -0.03  num -0.60  number -0.79
before  of 0.25  owner -0.28  poss -0.59  prep 0.23  pron -0.43  rel 0.49  start 0.36  the 0.21  to 0.32  verb -0.29
before  year -0.24
capital-last-times  1 -0.44  2 -0.41  5 -0.19
capital-length  2 0.83  3 0.41  4 -0.21  5 -0.18  6 -0.67  7 -1.01
capital-quarter  1 -0.16  2 -0.23  3 -0.38
capital-times  1 -0.50  2 -0.14  3 -0.19
edge  ,|A 0.39  ,|C 0.18  ,|D -0.30  ,|N 0.49  ,|V -0.39  A|,| 0.32  A|A| -0.19  A|C 0.38  A|D 0.45  A|N -0.50
edge  A|N| -0.49  A|P| -0.21  C|)| 0.26  C|,| 0.10  C|A -0.23  C|A| 0.20  C|C -0.69  C|C| -1.04  C|D -0.36
edge  C|D| -0.24  C|N| -0.12  C|P| 0.27  C|R| 0.28  C|V| 0.13  C|end| 0.15  C|of| -0.33  C|owner| -0.39  D|)| -0.39
edge  D|C -0.39  D|C| 0.46  D|D -0.25  D|N -0.41  D|N| 0.50  D|P| 0.42  D|dash| -0.64  N|(| 0.47  N|)| 0.36
edge  N|,| 0.18  N|A -0.22  N|A| -0.35  N|C 0.84  N|C| -0.12  N|D 0.42  N|D| -0.40  N|N -0.87  N|N| -0.22  N|P -0.42
edge  N|P| -0.17  N|V -0.42  N|V| 0.20  N|and| 0.35  N|end| 0.34  N|of| -0.27  N|quote| 0.32  N|the| -0.34  P|C 0.25
edge  P|D 0.58  P|N 0.24  P|V -0.27  P|poss -0.30  R|A -0.29  R|V -0.26  V|,| 0.35  V|A -0.31  V|A| -0.20  V|C 0.51
edge  V|D 0.26  V|N| -0.42  V|P| -0.44  V|V -0.54  and|A -0.26  and|C 0.20  and|N 0.14  a|N 0.13  dash|D -0.57
edge  of|A -0.19  of|D 0.50  of|N 0.18  poss|N -0.25  quote|C -0.16  quote|N 0.31  start|C 0.29  start|opener 0.28
edge  the|A 0.24  the|D 0.20  the|N -0.15
first  about 0.48  abstract -0.18  adj 0.11  adv -0.85  cap 0.77  caps 0.41  ed -0.74  from -0.54  ing -0.20
first  month 0.69  num -0.37  number 0.55  opener 0.28  plural -0.12  poss -0.70  quant -0.76  unit -0.49
first  verb -1.01
inside  , -0.84  a -0.82  about -0.21  abstract 0.11  adj -0.15  adv -0.28  and 0.15  aux -0.43  be -0.58  by -0.84
inside  cap 0.22  dash -0.26  ed -0.69  from -0.59  in -0.90  ing 0.12  month -0.29  noun -0.25  num -0.21
inside  number 0.20  of -0.08  owner -0.67  plural -0.34  poss -0.34  prep -0.48  pron -0.30  quant -0.22  rel -0.54
inside  the -0.89  to -0.50  unit -0.22  verb -0.61  year -0.31
last  adj -0.59  adv -0.44  caps -0.20  ed -0.45  ing -0.54  noun -0.21  num 0.29  number -0.54  plural -0.23
last  quant -0.34  verb -0.37  year 0.69
letters  1 -0.43  10 0.32  11 0.36  12 0.44  2 -0.45  3 -0.27  4 -0.24  5 -0.22  6 0.05  7 -0.10  8 0.10  9 0.25
list  yes 0.11
mixed-last-times  1 -0.49  2 -0.50  3 -0.40  4 0.29  5 0.20
mixed-length  2 0.78  3 0.33  5 -0.49  6 -0.64  7 -0.88
mixed-quarter  1 -0.56  2 -0.27  3 -0.23
mixed-times  1 -1.37
quoted  yes 1.20
sentence  0 -0.36  1 -0.69  2 -0.78  3 -0.95
small-last-times  1 -0.70  2 -0.51  3 0.05  4 0.09
small-length  1 0.19  2 0.23  3 0.08  4 0.11  5 -0.33  6 -0.40  7 -0.54
small-quarter  0 -0.03  1 -0.19  2 -0.17  3 -0.26
small-times  1 -0.57  3 -0.39  4 0.39
within  , -1.32  a -0.29  and -0.29  be -0.30  by -0.57  cap 0.21  ed -0.62  in -0.45  of 0.24  prep -0.35  to -0.36
within  verb -0.45
"""
WEIGHTS = {
    f"{family} {value}": float(weight)
    for family, *row in map(str.split, TABLE.strip().splitlines())
    for value, weight in zip(row[::2], row[1::2], strict=True)
}
