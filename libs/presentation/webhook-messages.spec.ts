import { testBody } from './webhook-messages';

it('makes a body in memory of its own, so that one that is kept keeps nothing beside it', () => {
  const body = testBody({ message: 'msg_1', webhook: 'whk_1', team: 'team_ä', time: new Date(0) });
  expect(body.buffer.byteLength).toBe(body.length);
  expect(JSON.parse(body.toString())).toMatchObject({ id: 'msg_1', subject: 'whk_1', data: { team: 'team_ä' } });
});
