"""What a candidate answer's look says about its being asked for: log odds, one row a kind of clue.

Written by scripts/candidate_weights.py from real questions; candidates.py says what each clue means (Passage.clues).
Not to be edited by hand.

    >>> WEIGHTS["before a"] > WEIGHTS["before adv"]
    True
"""

TABLE = """
after  ( 0.49  , 0.52  abstract -0.30  adj -0.30  be 0.32  cap -0.60  caps -0.52  ed 0.43  end 0.53  in -0.18
after  noun -0.53  num -0.55  number -0.71  of -0.73  owner -0.65  plural 0.11  rel 0.37  unit -0.38  verb 0.51
alone  adv -0.51  ed -0.44  num 0.55  number 0.83  quant -0.37  verb -0.46  year 0.74
always  yes -2.55
before  , 0.14  a 0.10  abstract -0.40  adj -0.36  adv -0.69  be 0.60  by 0.36  cap -0.82  caps -0.45  ed 0.44
before  from -0.42  in 0.24  num -0.70  number -0.92  of 0.20  poss -0.83  pron -0.69  rel 0.39  start 0.41
before  the 0.21  to 0.16  verb -0.24
capital-last-times  1 -0.31  2 -0.33
capital-length  2 0.89  3 0.30  4 -0.39  5 -0.39  6 -0.69  7 -0.96
capital-quarter  1 -0.08  2 -0.13  3 -0.32
capital-times  1 -0.44  2 -0.14
edge  ,|A 0.34  ,|N 0.51  ,|V -0.44  A|N -0.66  A|N| -0.43  C|C -0.70  C|C| -1.03  C|P| 0.27  C|end| 0.21  D|C| 0.55
edge  D|D -0.30  D|N -0.44  D|N| 0.73  D|P| 0.45  D|dash| -0.64  N|(| 0.54  N|A| -0.45  N|C 0.76  N|C| -0.27
edge  N|N -0.97  N|N| -0.27  N|P -0.42  N|P| -0.27  N|V -0.49  N|V| 0.10  N|and| 0.28  N|end| 0.24  N|of| -0.24
edge  P|C 0.24  P|D 0.47  P|N 0.19  V|A -0.32  V|C 0.27  V|N| -0.41  V|P| -0.42  V|V -0.57  start|C 0.16
edge  the|N -0.23
first  about 0.41  abstract -0.24  adj 0.10  adv -0.80  cap 0.59  caps 0.19  ed -0.88  from -0.70  ing -0.34
first  month 0.68  num -0.30  number 0.62  plural -0.06  poss -0.86  quant -0.86  unit -0.57  verb -1.09
inside  , -0.80  a -0.80  adj -0.13  adv -0.24  and 0.17  aux -0.38  be -0.55  by -0.75  ed -0.67  from -0.55
inside  in -0.89  noun -0.20  num -0.21  number 0.15  of -0.07  owner -0.57  plural -0.35  poss -0.34  prep -0.52
inside  pron -0.26  quant -0.24  rel -0.55  the -0.81  to -0.49  verb -0.58  year -0.32
last  adj -0.60  adv -0.43  cap -0.21  caps -0.37  ed -0.46  ing -0.64  noun -0.20  num 0.29  number -0.70
last  plural -0.17  quant -0.37  verb -0.39  year 0.57
letters  10 0.27  12 0.53  3 -0.22  4 -0.21  5 -0.24
mixed-last-times  1 -0.34  2 -0.36  3 -0.37  4 0.40
mixed-length  2 0.79  3 0.36  5 -0.36  6 -0.55  7 -0.75
mixed-quarter  1 -0.43  2 -0.15  3 -0.13
mixed-times  1 -1.56
quoted  yes 1.29
sentence  0 -0.26  1 -0.66  2 -0.72  3 -0.91
small-last-times  1 -0.87  2 -0.74
small-length  1 0.13  2 0.26  5 -0.38  6 -0.45  7 -0.59
small-quarter  0 -0.03  1 -0.11  2 -0.12  3 -0.21
small-times  1 -0.58  3 -0.41
title  part -0.61  whole -0.22
within  , -1.28  and -0.32  by -0.59  cap 0.27  ed -0.57  in -0.47
"""
WEIGHTS = {
    f"{family} {value}": float(weight)
    for family, *row in map(str.split, TABLE.strip().splitlines())
    for value, weight in zip(row[::2], row[1::2], strict=True)
}
