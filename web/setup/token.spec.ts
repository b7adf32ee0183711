import { tokenIn } from './token';

it('takes only a token of a setup link from the fragment', () => {
  expect(tokenIn('#smx_setup_Ab-9_z')).toBe('smx_setup_Ab-9_z');
  for (const other of ['', '#', '#smx_setup_', '#smx_root_abc', '#smx_setup_a&b', `#smx_setup_${'a'.repeat(201)}`])
    expect(tokenIn(other)).toBeUndefined();
});
