import { Positions } from './positions';

describe('positions that are on a topic', () => {
  it('are those that were added and not taken out, wherever they are', () => {
    const positions = new Positions();
    for (const each of [1, 7, 8, 15, 16, 2_000_000]) positions.add(each);
    expect(positions.above(0)).toEqual({ first: 1, count: 6 });
    expect(positions.above(7)).toEqual({ first: 8, count: 4 });
    for (const each of [8, 16, 9_000_000]) positions.remove(each);
    expect(positions.above(7)).toEqual({ first: 15, count: 2 });
    expect(positions.above(15)).toEqual({ first: 2_000_000, count: 1 });
    expect(positions.above(2_000_000)).toBeUndefined();
  });
});
