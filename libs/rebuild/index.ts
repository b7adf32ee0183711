export { compare, foldAll, type Comparison, type Difference } from './compare';
export { projectionNames, type ProjectionName } from './projections';
export { isRebuilding, rebuild, type Rebuilt, type RebuildOptions } from './rebuild';
