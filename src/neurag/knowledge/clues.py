"""What a candidate answer's look says about its being asked for: log odds, one row a kind of clue.

Written by scripts/candidate_weights.py from real questions; candidates.py says what each clue means (Passage.clues).
Not to be edited by hand.

    >>> WEIGHTS["before a"] > WEIGHTS["before adv"]
    True
"""

TABLE = """
after  ( 0.50  ) 0.19  , 0.48  a -0.47  abstract -0.27  adj -0.28  be 0.22  cap -0.58  caps -0.37  dash -0.27
after  ed 0.32  end 0.54  in -0.09  ing 0.14  noun -0.46  num -0.44  number -0.49  of -0.59  owner -0.44
after  plural 0.19  poss -0.28  quote 0.10  rel 0.31  stop -0.23  the -0.25  to -0.06  unit -0.35  verb 0.43
alone  abstract -0.26  adj -0.15  adv -0.49  cap 0.05  ed -0.42  ing -0.23  num 0.60  number 1.02  quant -0.33
alone  unit -0.30  verb -0.44  year 0.76
always  yes -2.63
before  ( 0.26  , 0.23  a 0.17  abstract -0.42  adj -0.42  adv -0.67  and 0.17  be 0.58  by 0.42  cap -0.68
before  caps -0.36  ed 0.23  from -0.40  in 0.33  initial -0.36  mark -0.30  month 0.25  noun -0.03  num -0.58
before  number -0.72  of 0.18  owner -0.27  plural 0.18  poss -0.68  prep 0.19  pron -0.53  quote 0.19  rel 0.49
before  start 0.24  the 0.25  to 0.36  verb -0.25
capital-last-times  1 -0.41  2 -0.41  3 -0.17  4 0.16  5 -0.21
capital-length  2 0.85  3 0.43  4 -0.33  5 -0.32  6 -0.74  7 -0.94
capital-quarter  1 -0.15  2 -0.17  3 -0.36
capital-times  1 -0.45  2 -0.10
edge  (|C 0.30  ,|A 0.44  ,|D -0.32  ,|N 0.58  ,|V -0.45  A|,| 0.37  A|A| -0.23  A|C 0.33  A|C| -0.21  A|D 0.48
edge  A|N -0.51  A|N| -0.46  A|P| -0.18  C|,| 0.03  C|A -0.18  C|A| 0.20  C|C -0.83  C|C| -1.00  C|D -0.31
edge  C|D| -0.37  C|N 0.13  C|P| 0.19  C|V| 0.14  C|end| 0.16  C|of| -0.40  C|owner| -0.34  D|)| -0.45  D|,| -0.22
edge  D|C -0.36  D|C| 0.35  D|D -0.35  D|N -0.39  D|N| 0.56  D|P| 0.35  D|dash| -0.56  N|(| 0.38  N|)| 0.41
edge  N|,| 0.05  N|A -0.19  N|A| -0.32  N|C 0.89  N|C| -0.22  N|D 0.45  N|D| -0.38  N|N -0.83  N|N| -0.24  N|P -0.47
edge  N|P| -0.25  N|V -0.50  N|V| 0.17  N|and| 0.33  N|end| 0.30  N|of| -0.28  N|quote| 0.43  N|the| -0.24  P|C 0.21
edge  P|D 0.59  P|N 0.26  P|V -0.19  P|poss -0.33  R|A -0.31  R|V -0.20  V|,| 0.40  V|A -0.31  V|A| -0.23  V|C 0.34
edge  V|D 0.25  V|N| -0.40  V|P| -0.44  V|V -0.52  V|the| -0.20  and|A -0.30  and|C 0.17  a|C -0.25  a|N 0.08
edge  dash|D -0.52  of|A -0.23  of|D 0.43  of|N 0.23  poss|N -0.18  quote|C -0.41  start|C 0.31  start|opener 0.28
edge  the|A 0.22  the|D 0.19  the|N -0.14
first  about 0.54  abstract -0.22  adj 0.13  adv -0.76  cap 0.66  caps 0.22  ed -0.76  from -0.62  ing -0.23
first  initial 0.31  month 0.66  noun -0.08  num -0.35  number 0.53  opener 0.28  plural -0.09  poss -0.70
first  quant -0.84  unit -0.56  verb -1.03  year -0.13
inside  , -0.80  a -0.82  about -0.17  adj -0.13  adv -0.22  and 0.17  aux -0.41  be -0.59  by -0.78  dash -0.20
inside  ed -0.69  from -0.56  in -0.87  ing 0.14  month -0.38  noun -0.22  num -0.19  number 0.22  of -0.12
inside  owner -0.61  plural -0.35  poss -0.31  prep -0.50  pron -0.30  quant -0.26  rel -0.57  the -0.84  to -0.47
inside  unit -0.18  verb -0.58  year -0.37
last  adj -0.53  adv -0.39  cap -0.13  caps -0.32  ed -0.43  ing -0.51  noun -0.22  num 0.33  number -0.53
last  plural -0.19  quant -0.34  verb -0.35  year 0.73
letters  1 -0.40  10 0.29  11 0.26  12 0.60  2 -0.29  3 -0.23  4 -0.20  5 -0.25  6 0.07  7 -0.10  8 0.13  9 0.18
list  yes 0.10
mixed-last-times  1 -0.36  2 -0.42  3 -0.38  4 0.42
mixed-length  2 0.76  3 0.35  4 -0.08  5 -0.35  6 -0.52  7 -0.74
mixed-quarter  1 -0.45  2 -0.23  3 -0.15
mixed-times  1 -1.55
quoted  yes 1.27
sentence  0 -0.35  1 -0.64  2 -0.74  3 -0.90
small-last-times  1 -0.69  2 -0.55  5 0.14
small-length  1 0.06  2 0.23  4 0.05  5 -0.38  6 -0.44  7 -0.61
small-quarter  0 -0.19  1 -0.25  2 -0.25  3 -0.32
small-times  1 -0.60  3 -0.47  4 0.25
title  part -0.50  whole -0.23
within  , -1.27  and -0.29  by -0.60  cap 0.28  ed -0.58  from -0.37  in -0.35  prep -0.33  to -0.43  verb -0.38
"""
WEIGHTS = {
    f"{family} {value}": float(weight)
    for family, *row in map(str.split, TABLE.strip().splitlines())
    for value, weight in zip(row[::2], row[1::2], strict=True)
}
