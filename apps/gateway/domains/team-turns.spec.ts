import { setImmediate as turn } from 'node:timers/promises';
import { ApiError } from '../http/api-error';
import { TeamTurns } from './team-turns';

/** Tasks that run until they are ended by name. */
class Tasks {
  readonly running: string[] = [];
  private readonly ends = new Map<string, () => void>();
  task(name: string): () => Promise<string> {
    return async () => {
      this.running.push(name);
      await new Promise<void>((end) => this.ends.set(name, end));
      this.running.splice(this.running.indexOf(name), 1);
      return name;
    };
  }
  async end(name: string): Promise<void> {
    this.ends.get(name)!();
    await turn();
  }
}

describe('the turns of a team', () => {
  it('let so many tasks run at a time, the others in their order, and no team wait for another', async () => {
    const turns = new TeamTurns(2, 2);
    const tasks = new Tasks();
    const all = ['a1', 'a2', 'a3', 'a4'].map((name) => turns.run('a', tasks.task(name)));
    const other = turns.run('b', tasks.task('b1'));
    expect(tasks.running).toEqual(['a1', 'a2', 'b1']);
    await expect(turns.run('a', tasks.task('a5'))).rejects.toThrow(ApiError);
    await tasks.end('a2');
    expect(tasks.running).toEqual(['a1', 'b1', 'a3']);
    await tasks.end('a1');
    for (const name of ['a3', 'a4', 'b1']) await tasks.end(name);
    expect(await Promise.all([...all, other])).toEqual(['a1', 'a2', 'a3', 'a4', 'b1']);
  });

  it('are free again after a task that fails', async () => {
    const turns = new TeamTurns(1, 1);
    const failing = () => Promise.reject(new Error('failed'));
    for (let i = 0; i < 3; i++) await expect(turns.run('a', failing)).rejects.toThrow('failed');
    const both = [turns.run('a', failing), turns.run('a', () => Promise.resolve(1))];
    expect((await Promise.allSettled(both)).map(({ status }) => status)).toEqual(['rejected', 'fulfilled']);
  });
});
