import { checkLog } from './support/log-checker';

const at = (position: number, stream = 'a', version = position) => ({ position, stream, version });
const committed = [at(1), at(2), at(4), at(5, 'b', 1)];
const none = { lost: 0, repeated: 0, outOfOrder: 0, outOfOrderInStream: 0, invented: 0 };

describe('the checker of the log', () => {
  it.each([
    ['a true history', committed, none],
    ['one lost', [at(1), at(4), at(5, 'b', 1)], { ...none, lost: 1 }],
    ['one repeated', [...committed, at(2)], { ...none, repeated: 1 }],
    ['one out of order', [at(1), at(2), at(5, 'b', 1), at(4)], { ...none, outOfOrder: 1 }],
    ['a stream out of order', [at(2), at(1), at(4), at(5, 'b', 1)], { ...none, outOfOrder: 1, outOfOrderInStream: 1 }],
    ['one invented', [...committed, at(6, 'b', 2)], { ...none, invented: 1 }],
  ])('%s', (_, seen, faults) => expect(checkLog(committed, seen)).toEqual(faults));
});
